// AVX2 and FMA vectors.
//
// The same small vector type in every vec_*.h: see vec_avx512.h for what each operation promises.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class Real>
struct Vec;

template <>
struct Vec<float> {
    using Real = float;
    static constexpr int kLanes = 8, kRegisters = 16, kUnrolled = 8;
    static constexpr bool kFused = true;
    __m256 v;

    static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
    static Vec load_n(const float* p, std::ptrdiff_t n) { return {_mm256_maskload_ps(p, mask(n))}; }
    static Vec broadcast(float s) { return {_mm256_set1_ps(s)}; }
    static Vec zero() { return {_mm256_setzero_ps()}; }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    static void prefetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
    void store_n(float* p, std::ptrdiff_t n) const { _mm256_maskstore_ps(p, mask(n), v); }

    friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
    friend Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
    friend Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
    friend Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
    friend Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
    friend Vec abs(Vec a) { return {_mm256_andnot_ps(sign_bits(), a.v)}; }
    friend Vec copysign(Vec a, Vec b) {
        return {_mm256_or_ps(_mm256_andnot_ps(sign_bits(), a.v), _mm256_and_ps(sign_bits(), b.v))};
    }
    friend Vec where_positive(Vec a, Vec b) {
        return {_mm256_and_ps(_mm256_cmp_ps(a.v, _mm256_setzero_ps(), _CMP_GT_OQ), b.v)};
    }
    friend Vec exponent_bits(Vec biased) {
        return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(biased.v), 23))};
    }
    friend Vec zip_lo(Vec a, Vec b) {
        return {_mm256_permute2f128_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v), 0x20)};
    }
    friend Vec zip_hi(Vec a, Vec b) {
        return {_mm256_permute2f128_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v), 0x31)};
    }

    friend Vec low_bfloat16(Vec a) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 16))}; }
    friend Vec high_bfloat16(Vec a) {
        return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_srli_epi32(_mm256_castps_si256(a.v), 16), 16))};
    }
    friend Vec round_bfloat16(Vec a) {
        const __m256i bits = _mm256_castps_si256(a.v), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one());
        const __m256i above = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const __m256 none = _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q);
        return high_bfloat16(Vec{_mm256_blendv_ps(_mm256_castsi256_ps(above), _mm256_castsi256_ps(quiet(bits)), none)});
    }
    friend Vec add_int32(Vec a, Vec b) {
        return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), _mm256_castps_si256(b.v)))};
    }
    friend Vec add_products_int16(Vec a, Vec b, Vec c) {
        return add_int32({_mm256_castsi256_ps(_mm256_madd_epi16(_mm256_castps_si256(a.v), _mm256_castps_si256(b.v)))},
                         c);
    }
    friend Vec from_int32(Vec a) { return {_mm256_cvtepi32_ps(_mm256_castps_si256(a.v))}; }
    friend Vec to_int32(Vec a) { return {_mm256_castsi256_ps(_mm256_cvtps_epi32(a.v))}; }
    void store_int16(std::int16_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), int16()); }
#ifdef FASTRNN_DOT_INT8
    static constexpr std::uint32_t kInt8Offset = 128;
    friend Vec add_products_int8(Vec a, Vec b, Vec c) {
        const __m256i x = _mm256_castps_si256(a.v), w = _mm256_castps_si256(b.v), sum = _mm256_castps_si256(c.v);
#if defined(__AVXVNNI__) || defined(_MSC_VER)
        return {_mm256_castsi256_ps(_mm256_dpbusd_avx_epi32(sum, w, x))};
#else  // as AVX-512 has it, for a test
        return {_mm256_castsi256_ps(_mm256_dpbusd_epi32(sum, w, x))};
#endif
    }
    void store_int8(std::int8_t* p) const {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(int16(), int16()));
    }
#endif

private:
    __m128i int16() const {
        const __m256i words = _mm256_castps_si256(v);
        return _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    }
    // Lanes below n have their top bit set: a sliding window over eight ones and eight zeros.
    static __m256i mask(std::ptrdiff_t n) {
        static constexpr std::int32_t kWindow[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kWindow + kLanes - n));
    }
    static __m256 sign_bits() { return _mm256_set1_ps(-0.0f); }
    static __m256i one() { return _mm256_set1_epi32(1); }
    static __m256i quiet(__m256i nan) { return _mm256_or_si256(nan, _mm256_set1_epi32(0x400000)); }
};

template <>
struct Vec<double> {
    using Real = double;
    static constexpr int kLanes = 4, kRegisters = 16, kUnrolled = 4;
    static constexpr bool kFused = true;
    __m256d v;

    static Vec load(const double* p) { return {_mm256_loadu_pd(p)}; }
    static Vec load_n(const double* p, std::ptrdiff_t n) { return {_mm256_maskload_pd(p, mask(n))}; }
    static Vec broadcast(double s) { return {_mm256_set1_pd(s)}; }
    static Vec zero() { return {_mm256_setzero_pd()}; }
    void store(double* p) const { _mm256_storeu_pd(p, v); }
    static void prefetch(const double* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
    void store_n(double* p, std::ptrdiff_t n) const { _mm256_maskstore_pd(p, mask(n), v); }

    friend Vec operator+(Vec a, Vec b) { return {_mm256_add_pd(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_pd(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_pd(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {_mm256_div_pd(a.v, b.v)}; }
    friend Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
    friend Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_pd(a.v, b.v, c.v)}; }
    friend Vec min(Vec a, Vec b) { return {_mm256_min_pd(a.v, b.v)}; }
    friend Vec max(Vec a, Vec b) { return {_mm256_max_pd(a.v, b.v)}; }
    friend Vec abs(Vec a) { return {_mm256_andnot_pd(sign_bits(), a.v)}; }
    friend Vec copysign(Vec a, Vec b) {
        return {_mm256_or_pd(_mm256_andnot_pd(sign_bits(), a.v), _mm256_and_pd(sign_bits(), b.v))};
    }
    friend Vec where_positive(Vec a, Vec b) {
        return {_mm256_and_pd(_mm256_cmp_pd(a.v, _mm256_setzero_pd(), _CMP_GT_OQ), b.v)};
    }
    friend Vec exponent_bits(Vec biased) {
        return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(biased.v), 52))};
    }
    friend Vec zip_lo(Vec a, Vec b) {
        return {_mm256_permute2f128_pd(_mm256_unpacklo_pd(a.v, b.v), _mm256_unpackhi_pd(a.v, b.v), 0x20)};
    }
    friend Vec zip_hi(Vec a, Vec b) {
        return {_mm256_permute2f128_pd(_mm256_unpacklo_pd(a.v, b.v), _mm256_unpackhi_pd(a.v, b.v), 0x31)};
    }

private:
    // Lanes below n have their top bit set: a sliding window over four ones and four zeros.
    static __m256i mask(std::ptrdiff_t n) {
        static constexpr std::int64_t kWindow[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kWindow + kLanes - n));
    }
    static __m256d sign_bits() { return _mm256_set1_pd(-0.0); }
};

struct Bits {
    static constexpr int kLanes = 4;
    __m256i v;

    static Bits load(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
    static Bits broadcast(std::uint64_t s) { return {_mm256_set1_epi64x(static_cast<long long>(s))}; }
    void store(std::uint64_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }

    friend Bits operator+(Bits a, Bits b) { return {_mm256_add_epi64(a.v, b.v)}; }
    friend Bits add_halves(Bits a, Bits b) { return {_mm256_add_epi32(a.v, b.v)}; }
    friend Bits low_product(Bits a, Bits b) { return {_mm256_mul_epu32(a.v, b.v)}; }
    friend Bits operator^(Bits a, Bits b) { return {_mm256_xor_si256(a.v, b.v)}; }
    template <int n>
    Bits left() const {
        return {_mm256_slli_epi64(v, n)};
    }
    template <int n>
    Bits right() const {
        return {_mm256_srli_epi64(v, n)};
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
