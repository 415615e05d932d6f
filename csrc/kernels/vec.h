// The vector type of the ISA that this translation unit is compiled for, and what is made of its operations alone.
#pragma once

#define FASTRNN_VEC_HEADER_baseline "vec_baseline.h"
#define FASTRNN_VEC_HEADER_avx2 "vec_avx2.h"
#define FASTRNN_VEC_HEADER_avx512 "vec_avx512.h"
#define FASTRNN_VEC_HEADER_neon "vec_neon.h"
#define FASTRNN_CONCATENATE(a, b) a##b
#define FASTRNN_VEC_HEADER(isa) FASTRNN_CONCATENATE(FASTRNN_VEC_HEADER_, isa)
#include FASTRNN_VEC_HEADER(FASTRNN_ISA)

// For what is the same for all cells and large: copies of it in each of them make nothing faster, and compiling slower.
#ifdef _MSC_VER
#define FASTRNN_NOINLINE __declspec(noinline)
#define FASTRNN_INLINE __forceinline
#define FASTRNN_INLINE_LAMBDA
#else
#define FASTRNN_NOINLINE __attribute__((noinline))
#define FASTRNN_INLINE __attribute__((always_inline)) inline
#define FASTRNN_INLINE_LAMBDA __attribute__((always_inline))
#endif

// Eight times the body for each branch. A branch that is taken some dozen times in a row, and then not, is foreseen;
// one that is taken hundreds of times is not.
#if defined(__clang__)
#define FASTRNN_UNROLL_8 _Pragma("unroll 8")
#define FASTRNN_UNROLL_4 _Pragma("unroll 4")
#define FASTRNN_UNROLL_2 _Pragma("unroll 2")
#elif defined(__GNUC__)
#define FASTRNN_UNROLL_8 _Pragma("GCC unroll 8")
#define FASTRNN_UNROLL_4 _Pragma("GCC unroll 4")
#define FASTRNN_UNROLL_2 _Pragma("GCC unroll 2")
#else
#define FASTRNN_UNROLL_8
#define FASTRNN_UNROLL_4
#define FASTRNN_UNROLL_2
#endif

namespace fastrnn::FASTRNN_ISA {
namespace {

// Two vectors side by side, with the operations that cells and math.h are made of. Those of one row are a chain in
// which nearly each waits for the one before; what the processor sees of the next row's is too little to fill the time.
template <class V>
struct Pair {
    using Real = typename V::Real;
    static constexpr bool kFused = V::kFused;
    V a, b;

    static Pair broadcast(Real s) { return {V::broadcast(s), V::broadcast(s)}; }
    static Pair zero() { return {V::zero(), V::zero()}; }

    friend Pair operator+(Pair x, Pair y) { return {x.a + y.a, x.b + y.b}; }
    friend Pair operator-(Pair x, Pair y) { return {x.a - y.a, x.b - y.b}; }
    friend Pair operator*(Pair x, Pair y) { return {x.a * y.a, x.b * y.b}; }
    friend Pair operator/(Pair x, Pair y) { return {x.a / y.a, x.b / y.b}; }
    friend Pair fma(Pair x, Pair y, Pair z) { return {fma(x.a, y.a, z.a), fma(x.b, y.b, z.b)}; }
    friend Pair fnma(Pair x, Pair y, Pair z) { return {fnma(x.a, y.a, z.a), fnma(x.b, y.b, z.b)}; }
    friend Pair min(Pair x, Pair y) { return {min(x.a, y.a), min(x.b, y.b)}; }
    friend Pair max(Pair x, Pair y) { return {max(x.a, y.a), max(x.b, y.b)}; }
    friend Pair abs(Pair x) { return {abs(x.a), abs(x.b)}; }
    friend Pair copysign(Pair x, Pair y) { return {copysign(x.a, y.a), copysign(x.b, y.b)}; }
    friend Pair where_positive(Pair x, Pair y) { return {where_positive(x.a, y.a), where_positive(x.b, y.b)}; }
    friend Pair exponent_bits(Pair biased) { return {exponent_bits(biased.a), exponent_bits(biased.b)}; }
};

// Rows become columns: lane j of row i goes to lane i of row j. Zipping row i with row i + kLanes / 2, log2(kLanes)
// times over, is a transposition.
template <class V>
inline void transpose(V (&row)[V::kLanes]) {
    for (int width = V::kLanes; width > 1; width /= 2) {
        V zipped[V::kLanes];
        for (int i = 0; i < V::kLanes / 2; ++i) {
            zipped[2 * i] = zip_lo(row[i], row[i + V::kLanes / 2]);
            zipped[2 * i + 1] = zip_hi(row[i], row[i + V::kLanes / 2]);
        }
        for (int i = 0; i < V::kLanes; ++i) row[i] = zipped[i];
    }
}

// Lane i of the result is the sum of the lanes of row i.
template <class V>
inline V sums(V (&row)[V::kLanes]) {
    for (int half = V::kLanes / 2; half >= 1; half /= 2) {
        for (int i = 0; i < half; ++i) row[i] = zip_lo(row[i], row[i + half]) + zip_hi(row[i], row[i + half]);
    }
    return row[0];
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
