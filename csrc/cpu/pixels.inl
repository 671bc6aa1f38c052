// Sums over the pixels of images and gradients, in one order for each width.

// Sums over all pixels; images and gradients end in zeros up to the pitch.
struct Sums {
    float first, second;
};

// The sums of f(offset, first, second), which adds to two vectors, over whole vectors.
template <class F>
PYOIP_INLINE Sums sum_pixels(const Plan& plan, const F& f) {
    Vec first[2] = {}, second[2] = {};  // two of each, to hide the latency of an addition
    std::int64_t i = 0;
    for (; i + 2 * kLanes <= plan.pitch; i += 2 * kLanes) {
        f(i, first[0], second[0]);
        f(i + kLanes, first[1], second[1]);
    }
    if (i < plan.pitch) f(i, first[0], second[0]);
    const Vec both[2] = {first[0] + first[1], second[0] + second[1]};
    const Vec all = sums<2>(both);
    return {all[0], all[1]};
}

// Sum and sum of squares.
static Sums moments(const Plan& plan, const float* x) {
    return sum_pixels(plan, [&](std::int64_t i, Vec& sum, Vec& squares) {
        const Vec at = load(x + i);
        sum += at, squares += at * at;
    });
}
