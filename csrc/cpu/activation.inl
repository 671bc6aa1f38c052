// The activation functions and their derivatives, on whole vectors.

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
