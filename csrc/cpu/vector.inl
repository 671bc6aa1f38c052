// Vectors of PYOIP_LANES floats through the compilers' vector extension: the same source is
// SSE, AVX2, AVX-512 or NEON. Nothing here may call an inline function of the standard
// library: the linker could keep the copy that was compiled for the widest instruction set.

constexpr int kLanes = PYOIP_LANES;

typedef float Vec __attribute__((vector_size(PYOIP_LANES * 4)));
typedef std::int32_t IVec __attribute__((vector_size(PYOIP_LANES * 4)));
typedef float LooseVec __attribute__((vector_size(PYOIP_LANES * 4), aligned(4), may_alias));
typedef std::int32_t LooseIVec __attribute__((vector_size(PYOIP_LANES * 4), aligned(4), may_alias));

typedef signed char Bytes __attribute__((vector_size(PYOIP_LANES), aligned(1), may_alias));
typedef signed char AllBytes __attribute__((vector_size(PYOIP_LANES * 4)));

#define PYOIP_INLINE static inline __attribute__((always_inline))
#define PYOIP_INLINED __attribute__((always_inline))  // for lambdas

PYOIP_INLINE Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
PYOIP_INLINE void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
PYOIP_INLINE void store(std::int32_t* p, IVec v) { *reinterpret_cast<LooseIVec*>(p) = v; }

template <std::size_t... I>
PYOIP_INLINE Bytes low_bytes(IVec v, std::index_sequence<I...>) {
#if defined(__AVX512F__)
    auto bytes = __builtin_convertvector(v, Bytes);
    asm("" : "+x"(bytes));  // in a register first: the narrowing store is slow on some processors
    return bytes;
#else
    const AllBytes all = reinterpret_cast<AllBytes>(v);
    return __builtin_shufflevector(all, all, (4 * int(I))...);  // little-endian
#endif
}

// The lanes, each 0 to 127, as bytes.
PYOIP_INLINE void store_bytes(std::uint8_t* p, IVec v) {
    *reinterpret_cast<Bytes*>(p) = low_bytes(v, std::make_index_sequence<kLanes>{});
}

// Loaded once, for several uses: compilers tend to load again for each multiply-add.
PYOIP_INLINE Vec in_register(Vec v) {
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#elif defined(__x86_64__)
    asm("" : "+x"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#endif
    return v;
}

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
    std::uint64_t words[kLanes / 2], found = 0;
    __builtin_memcpy(words, &mask, sizeof words);
    for (int i = 0; i < kLanes / 2; ++i) found |= words[i];
    return found != 0;
}

PYOIP_INLINE Vec select(IVec mask, Vec yes, Vec no) { return mask ? yes : no; }
PYOIP_INLINE IVec select(IVec mask, IVec yes, IVec no) { return mask ? yes : no; }
PYOIP_INLINE Vec smaller(Vec a, Vec b) { return select(a < b, a, b); }
PYOIP_INLINE Vec larger(Vec a, Vec b) { return select(a > b, a, b); }

// Halves of `block` lanes of each of the items in a, then in b, added up: sum's order, for
// several sums at a time.
template <int Block, std::size_t... I>
PYOIP_INLINE Vec fold(Vec a, Vec b, std::index_sequence<I...>) {
    constexpr int half = Block / 2, items = kLanes / Block;
    constexpr auto from = [](int lane) {
        const int item = lane / half;
        return (item < items ? 0 : kLanes) + item % items * Block + lane % half;
    };
    return __builtin_shufflevector(a, b, from(int(I))...) +
           __builtin_shufflevector(a, b, (from(int(I)) + half)...);
}

// The sums of N vectors (a power of two, at most kLanes) to the first N lanes.
template <int N, int Block = kLanes>
PYOIP_INLINE Vec sums(const Vec (&v)[N]) {
    using Lanes = std::make_index_sequence<kLanes>;
    if constexpr (Block == 1) {
        return v[0];
    } else if constexpr (N == 1) {
        const Vec folded[1] = {fold<Block>(v[0], v[0], Lanes{})};
        return sums<1, Block / 2>(folded);
    } else {
        Vec folded[N / 2];
        for (int i = 0; i < N / 2; ++i) folded[i] = fold<Block>(v[2 * i], v[2 * i + 1], Lanes{});
        return sums<N / 2, Block / 2>(folded);
    }
}

PYOIP_INLINE float sum(Vec v) {
    const Vec one[1] = {v};
    return sums<1>(one)[0];
}

static void clear(float* p, std::int64_t count) {
    __builtin_memset(p, 0, std::size_t(count) * sizeof(float));
}

// f(Constant<0>{}) ... f(Constant<N - 1>{}): loops that the compiler must unroll.
template <int I>
struct Constant {
    static constexpr int value = I;
};

template <int N, int I = 0, class F>
PYOIP_INLINE void unrolled(const F& f) {
    if constexpr (I < N) {
        f(Constant<I>{});
        unrolled<N, I + 1>(f);
    }
}

// f(Constant<n>{}) for an n known at run time, 1 <= n <= N.
template <int N, class F>
PYOIP_INLINE void with_count(int n, const F& f) {
    if constexpr (N > 0) {
        if (n == N)
            f(Constant<N>{});
        else
            with_count<N - 1>(n, f);
    }
}

// Items begin ... end - 1.
struct Range {
    int begin, end;
};

PYOIP_INLINE int smaller_of(int a, int b) { return a < b ? a : b; }

// A few floats, without a call.
PYOIP_INLINE void copy_floats(float* to, const float* from, int count) {
    int i = 0;
    for (; i + 4 <= count; i += 4) __builtin_memcpy(to + i, from + i, 16);
    for (; i < count; ++i) to[i] = from[i];
}
