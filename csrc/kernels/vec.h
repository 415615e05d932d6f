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
#else
#define FASTRNN_NOINLINE __attribute__((noinline))
#define FASTRNN_INLINE __attribute__((always_inline)) inline
#endif

namespace fastrnn::FASTRNN_ISA {
namespace {

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
