// The first layer as the target: one small kernel over one or three planes.
//
// Algorithm: a vector runs along a row. A block of output rows stays in registers while the
// input rows that they share go by: each load serves all kernel rows. The map's activation and
// derivative are taken there, too; the derivatives go to a plane with a border of zeros, spread
// by the stride, over which the flipped kernel gives the image's gradient in the same way.
// Layout: planes (C, padded_h, padded_w), the image itself where nothing pads it.
// Bound: multiply-adds for 3x3 and 5x5 kernels, loads for others (one each). Measured: whole
// steps at 35 % of the peak (28x28; 26 of 32 lanes are in use, a third is the update).

// Planes to correlate over, and where in them the first window begins.
struct Planes {
    const float* first;
    std::int64_t plane, pitch;
    int channels;
};

struct Kernel {
    const float* weights;  // (channels, height, width)
    int height, width;
};

// Every `stride`th value.
template <int Stride>
PYOIP_INLINE Vec load_every(const float* p) {
    if constexpr (Stride == 1) return load(p);
    Vec even, odd;
    split_pairs(p, even, odd, std::make_index_sequence<kLanes>{});
    return even;
}

// R output rows of one vector, `step` floats apart in the input.
template <int Stride, int R>
PYOIP_INLINE void correlate_block(const Planes& from, const Kernel& kernel, std::int64_t step,
                                  const float* corner, Vec (&acc)[R]) {
    const float* w = kernel.weights;
    for (int c = 0; c < from.channels; ++c, corner += from.plane)
        for (int y = 0; y < kernel.height; ++y)
            for (int x = 0; x < kernel.width; ++x) {
                const Vec weight = splat(*w++);
                for (int r = 0; r < R; ++r)
                    acc[r] += weight * load_every<Stride>(corner + r * step + y * from.pitch + x);
            }
}

struct Strides {
    int h, w;
};

// The same for square kernels at stride 1: each load serves K rows.
template <int K, int R>
PYOIP_INLINE void correlate_block_square(const Planes& from, const Kernel& kernel, const float* corner,
                                         Vec (&acc)[R]) {
    for (int c = 0; c < from.channels; ++c, corner += from.plane) {
        Vec w[K * K];  // in registers, where there are enough
        for (int i = 0; i < K * K; ++i) w[i] = splat(kernel.weights[c * K * K + i]);
        const float* line = corner;
        unrolled<R + K - 1>([&](auto row) PYOIP_INLINED {
            constexpr int in = decltype(row)::value;
            for (int x = 0; x < K; ++x) {
                const Vec at = in_register(load(line + x));
                for (int y = 0; y < K; ++y)
                    if (in >= y && in - y < R) acc[in - y] += w[K * y + x] * at;
            }
            line += from.pitch;
        });
    }
}

// What is computed of a block: a square kernel at stride 1, or any kernel at stride 1 or 2.
enum class Shape { square3, square5, stride1, stride2 };

// Rows in registers at a time: what a kernel leaves of 32 or 16.
constexpr int block_rows() { return kLanes == 16 ? 8 : 6; }

template <Shape kind, class Put>
static __attribute__((noinline)) void correlate_shape(const Planes& from, const Kernel& kernel,
                                                      Strides stride, int rows, int columns, float bias,
                                                      const Put& put) {
    const std::int64_t step = stride.h * from.pitch;
    constexpr int most = block_rows();
    const int blocks = (rows + most - 1) / most;
    for (int block = 0; block < blocks; ++block) {  // of equal size, or one less
        const Range share = part(rows, block, blocks);
        with_count<most>(share.end - share.begin, [&](auto count) PYOIP_INLINED {
            constexpr int R = decltype(count)::value;
            for (int x = (columns - 1) / kLanes * kLanes; x >= 0; x -= kLanes) {
                const float* corner = from.first + share.begin * step + std::int64_t(x) * stride.w;
                Vec acc[R];
                for (int r = 0; r < R; ++r) acc[r] = splat(bias);
                if constexpr (kind == Shape::square3)
                    correlate_block_square<3, R>(from, kernel, corner, acc);
                else if constexpr (kind == Shape::square5)
                    correlate_block_square<5, R>(from, kernel, corner, acc);
                else
                    correlate_block<kind == Shape::stride1 ? 1 : 2, R>(from, kernel, step, corner, acc);
                put(share.begin, x, acc);
            }
        });
    }
}

// put(y, x, values) for whole vectors of one or more rows from y on, over `rows` x `columns`. Of
// the vectors in a row the last comes first, so that what hangs over may be stored: it is
// overwritten by the next row. Each shape is a function of its own, with all registers for itself.
template <class Put>
PYOIP_INLINE void correlate_rows(const Planes& from, const Kernel& kernel, Strides stride, int rows,
                                 int columns, float bias, const Put& put) {
    const bool square = kernel.height == kernel.width && stride.h == 1 && stride.w == 1;
    if (square && kernel.width == 3)
        correlate_shape<Shape::square3>(from, kernel, stride, rows, columns, bias, put);
    else if (square && kernel.width == 5)
        correlate_shape<Shape::square5>(from, kernel, stride, rows, columns, bias, put);
    else if (stride.w == 1)
        correlate_shape<Shape::stride1>(from, kernel, stride, rows, columns, bias, put);
    else
        correlate_shape<Shape::stride2>(from, kernel, stride, rows, columns, bias, put);
}

static Planes image_planes(const Plan& plan, const float* image, float* memory) {
    const LayerPlan& p = plan.layers[0];
    if (p.unpadded) return {image, std::int64_t(plan.height) * plan.width, plan.width, plan.channels};
    load_image(plan, image, memory);
    return {memory + p.input, std::int64_t(p.padded_h) * p.padded_w, p.padded_w, plan.channels};
}

static Kernel target_kernel(const LayerPlan& p, const float* all, int map) {
    const std::int64_t taps = std::int64_t(p.in_channels) * p.kernel_h * p.kernel_w;
    return {all + map * taps, p.kernel_h, p.kernel_w};
}

// Where the derivative of a position goes: where its window begins, behind the border of zeros.
PYOIP_INLINE float* spread_row(const LayerPlan& p, float* plane, int y) {
    return plane + p.spread_lead + std::int64_t(p.kernel_h - 1 + y * p.stride_h) * p.spread_w;
}

PYOIP_INLINE void spread(const LayerPlan& p, float* row, int x, Vec d) {
    if (p.stride_w == 1) return store(row + x, d);
    float lanes[kLanes];
    store(lanes, d);
    for (int i = 0; i < kLanes && x + i < p.out_width; ++i) row[std::int64_t(x + i) * p.stride_w] = lanes[i];
}

// The map's means, and its derivatives to the plane. Leaves out the peak. Known: the activation
// is a ReLU and its value is asked for, as nearly always.
template <bool Known>
static Value weigh_map(const LayerPlan& p, const Planes& image, const Kernel& kernel, float bias,
                       Objective objective, float* plane) {
    const float share = float(1.0 / p.positions);
    const bool linear = objective == Objective::preactivation;
    const Vec slope = splat(p.slope), whole = splat(share);
    // In the last vector of a row, positions that do not exist have no share.
    const int last = (p.out_width - 1) / kLanes * kLanes;
    const Vec rest = select(lane_numbers() < splat_int(p.out_width - last), whole, Vec{});
    Vec before = {}, after = {}, slopes = {};  // no derivative is negative
    const auto weigh = [&](int y, int x, const auto& block) PYOIP_INLINED {
        const Vec part = x == last ? rest : whole;
        Vec z_sum = {}, a_sum = {}, d_sum = {};
        float* row = spread_row(p, plane, y);
        const std::int64_t step = std::int64_t(p.stride_h) * p.spread_w;
        unrolled<sizeof block / sizeof(Vec)>([&](auto r) PYOIP_INLINED {
            const Vec z = block[decltype(r)::value];
            const Vec a = Known ? larger(z, Vec{}) : activate(p.activation, slope, z);
            Vec d = part;
            if (Known)
                d = select(z > Vec{}, part, Vec{});
            else if (!linear)
                d = part * derivative(p.activation, slope, a);
            z_sum += z, a_sum += a;
            if (!Known) d_sum += d;
            spread(p, row, x, d);
            row += step;
        });
        before += z_sum * part, after += a_sum * part, slopes += d_sum;
    };
    correlate_rows(image, kernel, {p.stride_h, p.stride_w}, p.out_height, p.out_width, bias, weigh);
    const Vec three[4] = {after, before, slopes, Vec{}};
    const Vec all = sums<4>(three);
    const bool asleep = slope_of(p.activation) == Slope::gate && !(all[0] > 0.0f);
    return {all[0], all[1], 0.0f, asleep, Known ? asleep : !(all[2] > 0.0f)};
}

// Of a map that is asleep: the highest preactivation to the value, and its derivatives to the plane.
static void follow_peak(const LayerPlan& p, const Planes& image, const Kernel& kernel, float bias,
                        float* plane, Value* value) {
    const IVec lane = lane_numbers();
    Vec highest = splat(-__builtin_inff());
    IVec where = {};
    const auto compare = [&](int y, int x, const auto& block) PYOIP_INLINED {
        for (const Vec z : block) {
            const IVec at = lane + splat_int(y++ * p.map_width + x);
            const IVec first = (z > highest) | ((z == highest) & (at < where));
            const IVec more = (lane < splat_int(p.out_width - x)) & first;
            highest = select(more, z, highest), where = select(more, at, where);
        }
    };
    correlate_rows(image, kernel, {p.stride_h, p.stride_w}, p.out_height, p.out_width, bias, compare);
    const std::int32_t top = first_of_highest(highest, where, &value->peak);
    const int y = top / p.map_width, x = top % p.map_width;
    spread(p, spread_row(p, plane, y), x / kLanes * kLanes,
           select(lane == splat_int(x % kLanes), splat(1.0f), Vec{}));
    value->flat = false;
}

// The image's gradient, planes that end in zeros.
static void correlate_back(const Plan& plan, const float* flipped, int map, const float* plane,
                           float* gradient) {
    const LayerPlan& p = plan.layers[0];
    const float* first = plane + p.spread_lead - (p.kernel_w - 1) + p.pad_left;
    const Planes from{first + std::int64_t(p.pad_top) * p.spread_w, 0, p.spread_w, 1};
    const Kernel kernels = target_kernel(p, flipped, map);
    const std::int64_t size = std::int64_t(plan.height) * plan.width;
    for (int c = 0; c < plan.channels; ++c) {
        float* to = gradient + c * size;
        const Kernel kernel{kernels.weights + std::int64_t(c) * p.kernel_h * p.kernel_w, p.kernel_h,
                            p.kernel_w};
        correlate_rows(from, kernel, {1, 1}, p.in_height, p.in_width, 0.0f,
                       [&](int y, int x, const auto& block) PYOIP_INLINED {
                           float* row = to + std::int64_t(y) * plan.width + x;
                           unrolled<sizeof block / sizeof(Vec)>([&](auto r) PYOIP_INLINED {
                               store(row, block[decltype(r)::value]);
                               row += plan.width;
                           });
                       });
        if (p.in_width < plan.width)  // what no window sees
            for (int y = 0; y < p.in_height; ++y)
                clear(to + std::int64_t(y) * plan.width + p.in_width, plan.width - p.in_width);
        clear(to + std::int64_t(p.in_height) * plan.width, size - std::int64_t(p.in_height) * plan.width);
    }
    clear(gradient + plan.pixels, plan.pitch - plan.pixels);
}

static Value evaluate_planes(const Plan& plan, float* memory, const float* image, const Question& ask,
                             float* gradient) {
    const LayerPlan& p = plan.layers[0];
    const Planes planes = image_planes(plan, image, memory);
    const Kernel kernel = target_kernel(p, p.raw_weights, ask.map);
    const float bias = p.bias[ask.map];
    float* plane = memory + plan.spread;
    const bool activation = ask.objective == Objective::activation;
    Value value = activation && p.activation == Activation::relu
                      ? weigh_map<true>(p, planes, kernel, bias, ask.objective, plane)
                      : weigh_map<false>(p, planes, kernel, bias, ask.objective, plane);
    if (value.asleep && activation && ask.silent == Silent::wake)
        follow_peak(p, planes, kernel, bias, plane, &value);  // all derivatives are zeros
    if (value.flat)
        clear(gradient, plan.pitch);
    else
        correlate_back(plan, p.flipped_weights, ask.map, plane, gradient);
    return value;
}
