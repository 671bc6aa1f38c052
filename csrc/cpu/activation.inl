// The activation functions of activations.def and their slopes, on whole vectors.

// e^x for x in [-87, 88], relative error up to 2e-7: x = n ln 2 + r with |r| <= ln 2 / 2, and a
// polynomial for e^r whose largest relative error, 1.1e-7, is the least that its degree allows.
PYOIP_INLINE Vec exponential(Vec x) {
    x = smaller(larger(x, splat(-87.0f)), splat(88.0f));
    // 1.5 * 2^23 rounds to an integer; 127 makes n's lowest bits the exponent of 2^n.
    const Vec magic = splat(12582912.0f + 127.0f);
    const Vec shifted = x * splat(1.44269504f) + magic;
    const Vec n = shifted - magic;
    const Vec r = (x - n * splat(0.693359375f)) - n * splat(-2.12194440e-4f);
    Vec p = splat(8.31252015e-3f);
    p = p * r + splat(4.18901568e-2f);
    p = p * r + splat(1.66671146e-1f);
    p = p * r + splat(4.99992315e-1f);
    p = p * (r * r) + (r + splat(1.0f));
    IVec exponent;
    __builtin_memcpy(&exponent, &shifted, sizeof exponent);
    exponent <<= 23;
    Vec scale;
    __builtin_memcpy(&scale, &exponent, sizeof scale);
    return p * scale;
}

// x P(x^2) / Q(x^2), relative error up to 3e-7. The quotient's own largest relative error on
// [0, 9.02], 2.1e-8, is the least that two polynomials of degree 4 allow; from there on tanh
// rounds to 1. No coefficient is negative, so nothing cancels, near zero either.
PYOIP_INLINE Vec hyperbolic_tangent(Vec x) {
    x = smaller(larger(x, splat(-9.02f)), splat(9.02f));
    const Vec x2 = x * x;
    Vec p = splat(1.3319085e-8f), q = splat(7.76202535e-7f);
    p = p * x2 + splat(2.05834926e-5f), q = q * x2 + splat(3.28309406e-4f);
    p = p * x2 + splat(3.49403537e-3f), q = q * x2 + splat(2.58710766e-2f);
    p = p * x2 + splat(1.33797189e-1f), q = q * x2 + splat(4.67130348e-1f);
    p = p * x2 + splat(1.0f), q = q * x2 + splat(1.0f);
    return smaller(larger(x * p / q, splat(-1.0f)), splat(1.0f));
}

PYOIP_INLINE Vec activate(Activation kind, Vec alpha, Vec z) {
    const Vec zero = {}, one = splat(1.0f);
#define PYOIP_ACTIVATION(name, slope, value, ...) \
    if (kind == Activation::name) return value;
#include "../activations.def"
    return z;
}

// From the activated value. At 0 a gate's is 0.
PYOIP_INLINE Vec derivative(Activation kind, Vec alpha, Vec a) {
    const Vec zero = {}, one = splat(1.0f);
#define PYOIP_ACTIVATION(name, slope, value, derivative) \
    if (kind == Activation::name) return derivative;
#include "../activations.def"
    return one;
}
