// The ascent of one image by one block, from start to end: pyoip/reference.py is its definition,
// line by line. All threads decide alike, since sums over the block have the same bits in all of them.
#pragma once

#include "evaluate.cuh"
#include "kernels.hpp"

namespace pyoip::cuda {

// Halvings of the step in a row without a gain above the tolerance that end an ascent.
constexpr int kQuietWindows = 3;

struct Sums {
    float first, squares;
};

__device__ inline Sums image_sums(Block& b) {
    float sums[2] = {};
    each_pixel(b, [&](int i) {
        const float x = b.image()[i];
        sums[0] += x, sums[1] += x * x;
    });
    add_up(b, sums);
    return {sums[0], sums[1]};
}

// m: the sums of the image. Ends with a barrier.
__device__ inline void constrain(const Block& b, const AscentSettings& s, Sums m) {
    if (s.constraint == Constraint::clip) {
        each_pixel(b, [&](int i) { b.image()[i] = fminf(fmaxf(b.image()[i], s.low), s.high); });
    } else {
        const double share = b.plan.share, mean = m.first * share, variance = m.squares * share - mean * mean;
        const float shift = float(mean), scale = variance > 0.0 ? 1.0f / sqrtf(float(variance)) : 0.0f;
        each_pixel(b, [&](int i) { b.image()[i] = (b.image()[i] - shift) * scale; });
    }
    __syncthreads();
}

// A start image's mean may be far from zero; later means are not, and the sums tell all.
__device__ inline void begin(Block& b, const AscentSettings& s, const float* start) {
    each_pixel(b, [&](int i) { b.image()[i] = start[i]; });
    if (s.constraint == Constraint::standardize) {
        const float mean = image_sums(b).first / float(b.plan.pixels);
        each_pixel(b, [&](int i) { b.image()[i] -= mean; });
    }
    constrain(b, s, image_sums(b));
}

// Takes off the components that the constraint would take back; the gradient's sum of squares.
__device__ inline float make_tangent(Block& b, const AscentSettings& s, const Moments& m) {
    if (s.article) return m.square;
    const float count = float(b.plan.pixels), mean = m.sum / count, along = m.along / count;
    float squares[1] = {};
    each_pixel(b, [&](int i) {
        float& g = b.step()[i];
        const float x = b.image()[i];
        if (s.constraint == Constraint::standardize)
            g -= mean + along * x;
        else if ((x >= s.high && g > 0.0f) || (x <= s.low && g < 0.0f))
            g = 0.0f;
        squares[0] += g * g;
    });
    add_up(b, squares);
    return squares[0];
}

// The 3x3 binomial blur of every channel, edges replicated: down the columns, then along the rows.
__device__ inline void blur(const Block& b) {
    const Divisor width = b.plan.width, height = b.plan.height;
    float *image = b.image(), *half = b.scratch();
    __syncthreads();
    each_pixel(b, [&](int i) {
        const int y = i / width % height;
        const float above = image[y > 0 ? i - width : i], below = image[y + 1 < height ? i + width : i];
        half[i] = 0.25f * (above + below) + 0.5f * image[i];
    });
    __syncthreads();
    each_pixel(b, [&](int i) {
        const int x = i % width;
        const float left = half[x > 0 ? i - 1 : i], right = half[x + 1 < width ? i + 1 : i];
        image[i] = 0.25f * (left + right) + 0.5f * half[i];
    });
}

// v <- momentum v + g / (rms(g) + 1e-7);  x <- constrain(x + size v).
__device__ inline void advance(Block& b, const AscentSettings& s, float size, float squares, bool blurs) {
    const float momentum = s.article ? 0.0f : s.momentum;
    const float scale = 1.0f / (sqrtf(squares / float(b.plan.pixels)) + 1e-7f);
    float sums[2] = {};
    each_pixel(b, [&](int i) {
        const float v = momentum * b.velocity()[i] + scale * b.step()[i], x = b.image()[i] + size * v;
        b.velocity()[i] = v, b.image()[i] = x;
        sums[0] += x, sums[1] += x * x;
    });
    Sums m{};
    if (blurs) {
        blur(b);
        m = image_sums(b);
    } else {
        add_up(b, sums);
        m = {sums[0], sums[1]};
    }
    constrain(b, s, m);
}

// The best image so far and what it is worth. While a map sleeps its highest preactivation, at most
// 0, is what counts, so that waking is always a gain.
struct Best {
    float merit = -INFINITY, activation = NAN, preactivation = NAN;  // of no image, beyond float32
};

// When to halve the step and when to stop, judged every `patience` steps.
struct Pace {
    float size = 0.0f, mark = 0.0f;
    int since = 0, quiet = 0;

    // True when converged: the merit's relative gain stayed small through kQuietWindows halvings.
    __device__ __forceinline__ bool judge(const AscentSettings& s, int window, float merit) {
        if (++since < window) return false;
        since = 0;
        const float gain = merit - mark;
        mark = merit;
        if (gain > s.tolerance * fabsf(merit)) {
            quiet = 0;
            return false;
        }
        size *= 0.5f;
        return ++quiet > kQuietWindows;
    }
};

// What an ascent remembers from step to step. Between two steps it waits in shared memory, where it
// takes no register from the matrix products; all threads read it and go on alike, one writes.
struct Memory {
    Best best;
    Pace pace;
    int snapshot = 0;  // the next to be kept
    int woke = -1;
};
static_assert(sizeof(Memory) <= kKeptFloats * sizeof(float));

__device__ __forceinline__ Stop why_to_stop(const AscentSettings& s, const Value& value,
                                            const Moments& moments, int t, Memory& m) {
    const int window = s.smooth > s.patience ? s.smooth : s.patience;
    if (value.flat) return Stop::zero_gradient;
    if (moments.stop) return Stop::interrupted;
    return t > 0 && !s.article && m.pace.judge(s, window, m.best.merit) ? Stop::converged : Stop::steps;
}

// Takes down what the image of step t is worth, and keeps it where it is the best or asked for.
__device__ __forceinline__ void note(const Block& b, const AscentSettings& s, const Ascents& all,
                                     const Value& value, int t, Memory& m) {
    const std::int64_t pixels = b.plan.pixels, index = b.image_index(), at = index * pixels;
    const bool preactivation = s.objective == Objective::preactivation;
    const float awake = preactivation ? value.preactivation : value.activation;
    if (b.thread == 0) all.history[index * (s.steps + 1) + t] = awake;
    if (m.woke < 0 && !value.asleep) m.woke = t;
    const float merit = !preactivation && value.asleep ? value.peak : awake;
    if (merit > m.best.merit) {
        m.best = {merit, value.activation, value.preactivation};
        each_pixel(b, [&](int i) { all.images[at + i] = b.image()[i]; });
    }
    if (t == 0) m.pace.mark = m.best.merit;
    if (m.snapshot == s.snapshot_count || all.snapshot_steps[m.snapshot] != t) return;
    float* snapshot = all.snapshots + at * s.snapshot_count + pixels * m.snapshot++;
    each_pixel(b, [&](int i) { snapshot[i] = b.image()[i]; });
}

// After step t, the last.
__device__ __forceinline__ void finish(const Block& b, const AscentSettings& s, const Ascents& all, int t,
                                       const Memory& m, Stop why) {
    const std::int64_t pixels = b.plan.pixels, index = b.image_index(), at = index * pixels;
    float* history = all.history + index * (s.steps + 1);
    for (int i = t + 1 + b.thread; i <= s.steps; i += kThreads) history[i] = NAN;
    for (int k = m.snapshot; k < s.snapshot_count; ++k)
        each_pixel(
            b, [&](int i) { all.snapshots[at * s.snapshot_count + pixels * k + i] = all.images[at + i]; });
    if (b.thread != 0) return;
    all.activations[index] = m.best.activation, all.preactivations[index] = m.best.preactivation;
    all.steps[index] = t, all.woke[index] = m.woke, all.stops[index] = std::uint8_t(why);
}

// Of an image as it was given, where nothing but that is asked.
__device__ __forceinline__ void give_gradient(const Block& b, const Ascents& all, const Value& value) {
    const std::int64_t index = b.image_index();
    each_pixel(b, [&](int i) { all.gradients[index * b.plan.pixels + i] = b.step()[i]; });
    if (b.thread != 0) return;
    all.values[2 * index] = value.activation, all.values[2 * index + 1] = value.preactivation;
}

__device__ __forceinline__ void ascend(Block& b, const AscentSettings& s, const Ascents& all, unsigned index,
                                       const volatile int* stop) {
    const bool first = b.thread == 0, ascends = all.gradients == nullptr;
    auto* kept = reinterpret_cast<Memory*>(b.kept());
    if (first)
        *kept = Memory{{}, {ascends ? all.step_sizes[index] : 0.0f}}, b.past() = -1.0f,
        b.image_index() = index;
    load_map_row(b, all.targets[index]);
    if (ascends)
        begin(b, s, all.starts + std::int64_t(index) * b.plan.pixels);
    else
        load_image(b, all.starts, index);
    for (int t = 0;; ++t) {
        Moments moments;
        const Value value =
            evaluate(b, all.targets[b.image_index()], s.objective, s.article ? Silent::report : Silent::wake,
                     t % kRefresh == 0, stop, moments);
        if (all.gradients != nullptr) return give_gradient(b, all, value);
        Memory memory = *kept;
        note(b, s, all, value, t, memory);
        const Stop why = why_to_stop(s, value, moments, t, memory);
        if (why != Stop::steps || t == s.steps) return finish(b, s, all, t, memory, why);
        const float squares = make_tangent(b, s, moments);
        advance(b, s, memory.pace.size, squares, s.smooth > 0 && (t + 1) % s.smooth == 0);
        if (first) *kept = memory;  // all have read it: there were barriers in between
    }
}

}  // namespace pyoip::cuda
