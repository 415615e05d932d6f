// AVX-512 vectors.
//
// The vector type that cells and kernels are written in. Each vec_*.h defines the same operations, and they alone hold
// intrinsics. Unless said otherwise an operation is the IEEE one, lane by lane.
//   load_n, store_n   touch only the first n lanes in memory; load_n sets the others to zero
//   min, max          return the second operand where either is NaN, so that clamp(limit, x) keeps a NaN x
//   kUnrolled         times that a loop over k of many of them is written out: see unrolled() in product/tiles.h
//   prefetch          asks for a line of memory to be brought to L1
//   kFused            whether fma rounds once; where it does not, it is a product and a sum
//   copysign          magnitude of the first, sign of the second
//   where_positive    the second operand where the first is > 0, and zero elsewhere
//   exponent_bits     2^n for the n that was rounded into the low bits of `biased` (see round_to_exponent in math.h)
//   zip_lo, zip_hi    a0 b0 a1 b1 ... from the lower and upper halves of a and b
// A vector of float may also hold words of 32 bits, with which only these work beside load, store, zero and broadcast:
//   low_bfloat16, high_bfloat16   the numbers in the lower and upper halves of words
//   round_bfloat16    the nearest, even where two are as near, of lanes that are floats
//   add_int32         the sum of words that are integers; from_int32 and to_int32 (to the nearest, even) go to floats
//   add_products_int16, add_products_bfloat16   c + a0 b0 + a1 b1, of words of two; the latter where there is such an
//                     instruction, which rounds as it likes
//   add_products_int8 c + a0 b0 + ... + a3 b3, of words of four, where there is one. To what is meant by those of b
//                     kInt8Offset has been added: 128 where the instruction takes them for numbers without sign, else 0
//   store_int16, store_int8, store_bfloat16     the lanes, integers that fit or rounded to the nearest, one after the
//                     other
// Bits are lanes of 64 bits, with the integer operations that fingerprint.h needs.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fastrnn::FASTRNN_ISA {
namespace {

// What a vector of bfloat16 is, compilers have different opinions of: only copies go from and to it with all of them.
template <class To, class From>
inline To same_bits(From from) {
    To to;
    static_assert(sizeof to == sizeof from);
    std::memcpy(&to, &from, sizeof to);
    return to;
}

template <class Real>
struct Vec;

template <>
struct Vec<float> {
    using Real = float;
    static constexpr int kLanes = 16, kRegisters = 32, kUnrolled = 8;
    static constexpr bool kFused = true;
    __m512 v;

    static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static Vec load_n(const float* p, std::ptrdiff_t n) { return {_mm512_maskz_loadu_ps(mask(n), p)}; }
    static Vec broadcast(float s) { return {_mm512_set1_ps(s)}; }
    static Vec zero() { return {_mm512_setzero_ps()}; }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
    static void prefetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
    void store_n(float* p, std::ptrdiff_t n) const { _mm512_mask_storeu_ps(p, mask(n), v); }

    friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
    friend Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
    friend Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
    friend Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
    friend Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
    friend Vec abs(Vec a) { return {_mm512_andnot_ps(sign_bits(), a.v)}; }
    friend Vec copysign(Vec a, Vec b) {
        return {_mm512_or_ps(_mm512_andnot_ps(sign_bits(), a.v), _mm512_and_ps(sign_bits(), b.v))};
    }
    friend Vec where_positive(Vec a, Vec b) {
        return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, _mm512_setzero_ps(), _CMP_GT_OQ), b.v)};
    }
    friend Vec exponent_bits(Vec biased) {
        return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(biased.v), 23))};
    }
    friend Vec zip_lo(Vec a, Vec b) {
        const __m512i order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        return {_mm512_permutex2var_ps(a.v, order, b.v)};
    }
    friend Vec zip_hi(Vec a, Vec b) {
        const __m512i order = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        return {_mm512_permutex2var_ps(a.v, order, b.v)};
    }

    friend Vec low_bfloat16(Vec a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 16))}; }
    friend Vec high_bfloat16(Vec a) {
        return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_srli_epi32(_mm512_castps_si512(a.v), 16), 16))};
    }
    friend Vec round_bfloat16(Vec a) {
        const __m512i bits = _mm512_castps_si512(a.v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one());
        const __m512i above = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        const __mmask16 none = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
        return high_bfloat16(Vec{_mm512_castsi512_ps(_mm512_mask_mov_epi32(above, none, quiet(bits)))});
    }
    friend Vec add_int32(Vec a, Vec b) {
        return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
    }
    friend Vec add_products_int16(Vec a, Vec b, Vec c) {
        return add_int32({_mm512_castsi512_ps(_mm512_madd_epi16(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))},
                         c);
    }
    friend Vec from_int32(Vec a) { return {_mm512_cvtepi32_ps(_mm512_castps_si512(a.v))}; }
    friend Vec to_int32(Vec a) { return {_mm512_castsi512_ps(_mm512_cvtps_epi32(a.v))}; }
    void store_int16(std::int16_t* p) const {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_castps_si512(v)));
    }
    void store_int8(std::int8_t* p) const {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_castps_si512(v)));
    }
#ifdef FASTRNN_DOT_BFLOAT16
    friend Vec add_products_bfloat16(Vec a, Vec b, Vec c) {
        return {_mm512_dpbf16_ps(c.v, same_bits<__m512bh>(a.v), same_bits<__m512bh>(b.v))};
    }
    void store_bfloat16(std::uint16_t* p) const {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), same_bits<__m256i>(_mm512_cvtneps_pbh(v)));
    }
#endif
#ifdef FASTRNN_DOT_INT8
    static constexpr std::uint32_t kInt8Offset = 128;
    friend Vec add_products_int8(Vec a, Vec b, Vec c) {
        return {_mm512_castsi512_ps(
            _mm512_dpbusd_epi32(_mm512_castps_si512(c.v), _mm512_castps_si512(b.v), _mm512_castps_si512(a.v)))};
    }
#endif

private:
    static __mmask16 mask(std::ptrdiff_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
    static __m512 sign_bits() { return _mm512_set1_ps(-0.0f); }
    static __m512i one() { return _mm512_set1_epi32(1); }
    static __m512i quiet(__m512i nan) { return _mm512_or_si512(nan, _mm512_set1_epi32(0x400000)); }
};

template <>
struct Vec<double> {
    using Real = double;
    static constexpr int kLanes = 8, kRegisters = 32, kUnrolled = 4;
    static constexpr bool kFused = true;
    __m512d v;

    static Vec load(const double* p) { return {_mm512_loadu_pd(p)}; }
    static Vec load_n(const double* p, std::ptrdiff_t n) { return {_mm512_maskz_loadu_pd(mask(n), p)}; }
    static Vec broadcast(double s) { return {_mm512_set1_pd(s)}; }
    static Vec zero() { return {_mm512_setzero_pd()}; }
    void store(double* p) const { _mm512_storeu_pd(p, v); }
    static void prefetch(const double* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
    void store_n(double* p, std::ptrdiff_t n) const { _mm512_mask_storeu_pd(p, mask(n), v); }

    friend Vec operator+(Vec a, Vec b) { return {_mm512_add_pd(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_pd(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_pd(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {_mm512_div_pd(a.v, b.v)}; }
    friend Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
    friend Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_pd(a.v, b.v, c.v)}; }
    friend Vec min(Vec a, Vec b) { return {_mm512_min_pd(a.v, b.v)}; }
    friend Vec max(Vec a, Vec b) { return {_mm512_max_pd(a.v, b.v)}; }
    friend Vec abs(Vec a) { return {_mm512_andnot_pd(sign_bits(), a.v)}; }
    friend Vec copysign(Vec a, Vec b) {
        return {_mm512_or_pd(_mm512_andnot_pd(sign_bits(), a.v), _mm512_and_pd(sign_bits(), b.v))};
    }
    friend Vec where_positive(Vec a, Vec b) {
        return {_mm512_maskz_mov_pd(_mm512_cmp_pd_mask(a.v, _mm512_setzero_pd(), _CMP_GT_OQ), b.v)};
    }
    friend Vec exponent_bits(Vec biased) {
        return {_mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(biased.v), 52))};
    }
    friend Vec zip_lo(Vec a, Vec b) {
        const __m512i order = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        return {_mm512_permutex2var_pd(a.v, order, b.v)};
    }
    friend Vec zip_hi(Vec a, Vec b) {
        const __m512i order = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
        return {_mm512_permutex2var_pd(a.v, order, b.v)};
    }

private:
    static __mmask8 mask(std::ptrdiff_t n) { return static_cast<__mmask8>((1u << n) - 1u); }
    static __m512d sign_bits() { return _mm512_set1_pd(-0.0); }
};

struct Bits {
    static constexpr int kLanes = 8;
    __m512i v;

    static Bits load(const void* p) { return {_mm512_loadu_si512(p)}; }
    static Bits broadcast(std::uint64_t s) { return {_mm512_set1_epi64(static_cast<long long>(s))}; }
    void store(std::uint64_t* p) const { _mm512_storeu_si512(p, v); }

    friend Bits operator+(Bits a, Bits b) { return {_mm512_add_epi64(a.v, b.v)}; }
    friend Bits add_halves(Bits a, Bits b) { return {_mm512_add_epi32(a.v, b.v)}; }
    friend Bits low_product(Bits a, Bits b) { return {_mm512_mul_epu32(a.v, b.v)}; }
    friend Bits operator^(Bits a, Bits b) { return {_mm512_xor_si512(a.v, b.v)}; }
    template <int n>
    Bits left() const {
        return {_mm512_slli_epi64(v, n)};
    }
    template <int n>
    Bits right() const {
        return {_mm512_srli_epi64(v, n)};
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
