// What is asked of an image, and the answer.

struct Value {
    float activation, preactivation;  // means over positions
    float peak;                       // the highest preactivation
    bool asleep;                      // a ReLU that is off everywhere
    bool flat;                        // the gradient is exactly zero
};

// What to do with a map that a ReLU silences everywhere.
enum class Silent { report, wake };  // wake: follow the highest preactivation

struct Question {
    int map;
    Objective objective;
    Silent silent;
};

// The highest of the lanes to *value, and its place: the first of equal ones.
static std::int32_t first_of_highest(Vec highest, IVec where, float* value) {
    float heights[kLanes];
    std::int32_t places[kLanes];
    store(heights, highest);
    store(places, where);
    int best = 0;
    for (int i = 1; i < kLanes; ++i)
        if (heights[i] > heights[best] || (heights[i] == heights[best] && places[i] < places[best])) best = i;
    *value = heights[best];
    return places[best];
}
