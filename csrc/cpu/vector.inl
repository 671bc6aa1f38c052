// Vectors of PYOIP_LANES floats through the compilers' vector extension: the same source is
// SSE, AVX2, AVX-512 or NEON. Nothing here may call an inline function of the standard
// library: the linker could keep the copy that was compiled for the widest instruction set.

constexpr int kLanes = PYOIP_LANES;

typedef float Vec __attribute__((vector_size(PYOIP_LANES * 4)));
typedef std::int32_t IVec __attribute__((vector_size(PYOIP_LANES * 4)));
typedef float LooseVec __attribute__((vector_size(PYOIP_LANES * 4), aligned(4), may_alias));
typedef std::int32_t LooseIVec __attribute__((vector_size(PYOIP_LANES * 4), aligned(4), may_alias));

#define PYOIP_INLINE static inline __attribute__((always_inline))

PYOIP_INLINE Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
PYOIP_INLINE void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
PYOIP_INLINE void store(std::int32_t* p, IVec v) { *reinterpret_cast<LooseIVec*>(p) = v; }

PYOIP_INLINE Vec splat(float s) {
#if PYOIP_LANES == 4
    return Vec{s, s, s, s};
#elif PYOIP_LANES == 8
    return Vec{s, s, s, s, s, s, s, s};
#elif PYOIP_LANES == 16
    return Vec{s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s};
#else
#error "PYOIP_LANES must be 4, 8 or 16"
#endif
}

PYOIP_INLINE IVec splat_int(std::int32_t s) {
    IVec v = {};
    return v + s;
}

PYOIP_INLINE IVec lane_numbers() {
    std::int32_t numbers[kLanes];
    for (int i = 0; i < kLanes; ++i) numbers[i] = i;
    return *reinterpret_cast<const LooseIVec*>(numbers);
}

PYOIP_INLINE bool any(IVec mask) {
    std::int32_t lanes[kLanes], found = 0;
    *reinterpret_cast<LooseIVec*>(lanes) = mask;
    for (int i = 0; i < kLanes; ++i) found |= lanes[i];
    return found != 0;
}

PYOIP_INLINE Vec select(IVec mask, Vec yes, Vec no) { return mask ? yes : no; }
PYOIP_INLINE IVec select(IVec mask, IVec yes, IVec no) { return mask ? yes : no; }
PYOIP_INLINE Vec smaller(Vec a, Vec b) { return select(a < b, a, b); }
PYOIP_INLINE Vec larger(Vec a, Vec b) { return select(a > b, a, b); }

// The sum of the lanes, halves first: one order for each width.
PYOIP_INLINE float sum(Vec v) {
    float lanes[kLanes];
    store(lanes, v);
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

// e^x for x in [-87, 88], to about 1 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, and the power
// series of e^r.
PYOIP_INLINE Vec exponential(Vec x) {
    x = smaller(larger(x, splat(-87.0f)), splat(88.0f));
    const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const Vec n = (x * splat(1.44269504f) + magic) - magic;
    const Vec r = (x - n * splat(0.693359375f)) - n * splat(-2.12194440e-4f);
    Vec p = splat(1.0f / 5040.0f);
    p = p * r + splat(1.0f / 720.0f);
    p = p * r + splat(1.0f / 120.0f);
    p = p * r + splat(1.0f / 24.0f);
    p = p * r + splat(1.0f / 6.0f);
    p = p * r + splat(0.5f);
    p = p * (r * r) + (r + splat(1.0f));
    const IVec exponent = (__builtin_convertvector(n, IVec) + 127) << 23;
    Vec scale;
    __builtin_memcpy(&scale, &exponent, sizeof scale);
    return p * scale;
}

PYOIP_INLINE Vec sigmoid(Vec x) { return splat(1.0f) / (splat(1.0f) + exponential(-x)); }

// Near zero 1 - 2 / (e^2x + 1) would cancel; there the power series of x - tanh x.
PYOIP_INLINE Vec hyperbolic_tangent(Vec x) {
    const Vec far = splat(1.0f) - splat(2.0f) / (exponential(x + x) + splat(1.0f));
    const Vec x2 = x * x;
    Vec p = splat(21844.0f / 6081075.0f);
    p = splat(-1382.0f / 155925.0f) + p * x2;
    p = splat(62.0f / 2835.0f) + p * x2;
    p = splat(-17.0f / 315.0f) + p * x2;
    p = splat(2.0f / 15.0f) + p * x2;
    p = splat(-1.0f / 3.0f) + p * x2;
    const Vec near = x + x * (x2 * p);
    return select(x2 < splat(0.09f), near, far);
}

PYOIP_INLINE Vec activate(Activation kind, Vec slope, Vec z) {
    switch (kind) {
        case Activation::relu: return larger(z, Vec{});
        case Activation::leaky_relu: return select(z > Vec{}, z, z * slope);
        case Activation::tanh: return hyperbolic_tangent(z);
        case Activation::sigmoid: return sigmoid(z);
        case Activation::none: break;
    }
    return z;
}

// The derivative, from the activated value. At 0 a ReLU's is 0 and a leaky one's its slope.
PYOIP_INLINE Vec derivative(Activation kind, Vec slope, Vec a) {
    switch (kind) {
        case Activation::relu: return select(a > Vec{}, splat(1.0f), Vec{});
        case Activation::leaky_relu: return select(a > Vec{}, splat(1.0f), slope);
        case Activation::tanh: return splat(1.0f) - a * a;
        case Activation::sigmoid: return a * (splat(1.0f) - a);
        case Activation::none: break;
    }
    return splat(1.0f);
}

static void clear(float* p, std::int64_t count) {
    __builtin_memset(p, 0, std::size_t(count) * sizeof(float));
}
