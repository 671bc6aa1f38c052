// The matrices of Winograd's minimal filtering F(M, 3), by Cook and Toom's construction.
//
// A correlation with 3 taps that gives M outputs from M + 2 inputs is a product of two
// polynomials; evaluated at M + 1 points and at infinity it takes M + 2 multiplications instead
// of 3 M. In two dimensions, of a tile d and a kernel g:
//     Y = A^T [ (G g G^T) * (B^T d B) ] A,      "*" element by element,
// and with many channels the element-wise products are (M + 2)^2 matrix products.
// Source: S. Winograd, Arithmetic Complexity of Computations, 1980; for networks A. Lavin and
// S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016.
#pragma once

namespace pyoip::cpu {

template <int M>
struct Winograd {
    static constexpr int kSide = M + 2;  // of an input tile, and of the products
    double at[M][kSide]{};               // A^T
    double g[kSide][3]{};                // G
    double bt[kSide][kSide]{};           // B^T

    constexpr Winograd() {
        // Small points keep the rounding error small; M = 2 needs additions only.
        constexpr double points[] = {0.0, 1.0, -1.0, 2.0, -2.0, 0.5};
        static_assert(M + 1 <= int(sizeof points / sizeof *points));
        for (int j = 0; j <= M; ++j) {
            double scale = 1.0, power = 1.0;
            for (int l = 0; l <= M; ++l)
                if (l != j) scale *= points[j] - points[l];
            for (int k = 0; k < (M > 3 ? M : 3); ++k, power *= points[j]) {
                if (k < 3) g[j][k] = power / scale;
                if (k < M) at[k][j] = power;
            }
            multiply_out(points, j, bt[j]);
        }
        at[M - 1][M + 1] = 1.0;  // infinity
        g[M + 1][2] = 1.0;
        multiply_out(points, -1, bt[M + 1]);
    }

private:
    // Coefficients of the product of (x - point), but for the one point left out.
    static constexpr void multiply_out(const double* points, int left_out, double* row) {
        int degree = 0;
        row[0] = 1.0;
        for (int l = 0; l <= M; ++l) {
            if (l == left_out) continue;
            ++degree;
            for (int k = degree; k >= 0; --k)
                row[k] = (k > 0 ? row[k - 1] : 0.0) - (k < degree ? points[l] * row[k] : 0.0);
        }
    }
};

template <int M>
inline constexpr Winograd<M> kWinograd{};

// The product at the point (1, 1) goes into every output once: there the bias is added.
template <int M>
inline constexpr int kBiasPoint = Winograd<M>::kSide + 1;

}  // namespace pyoip::cpu
