// Baseline x86-64 vectors: SSE2, which every x86-64 processor has; fma is a product and a sum.
//
// The same small vector type in every vec_*.h: see vec_avx512.h for what each operation promises.
#pragma once

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class Real>
struct Vec;

template <>
struct Vec<float> {
    using Real = float;
    static constexpr int kLanes = 4, kRegisters = 16, kUnrolled = 8;
    static constexpr bool kFused = false;
    __m128 v;

    static Vec load(const float* p) { return {_mm_loadu_ps(p)}; }
    static Vec load_n(const float* p, std::ptrdiff_t n) {
        alignas(16) float lane[kLanes] = {};
        for (std::ptrdiff_t i = 0; i < n; ++i) lane[i] = p[i];
        return {_mm_load_ps(lane)};
    }
    static Vec broadcast(float s) { return {_mm_set1_ps(s)}; }
    static Vec zero() { return {_mm_setzero_ps()}; }
    void store(float* p) const { _mm_storeu_ps(p, v); }
    static void prefetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
    void store_n(float* p, std::ptrdiff_t n) const {
        alignas(16) float lane[kLanes];
        _mm_store_ps(lane, v);
        for (std::ptrdiff_t i = 0; i < n; ++i) p[i] = lane[i];
    }

    friend Vec operator+(Vec a, Vec b) { return {_mm_add_ps(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {_mm_sub_ps(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {_mm_mul_ps(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {_mm_div_ps(a.v, b.v)}; }
    friend Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
    friend Vec fnma(Vec a, Vec b, Vec c) { return c - a * b; }
    friend Vec min(Vec a, Vec b) { return {_mm_min_ps(a.v, b.v)}; }
    friend Vec max(Vec a, Vec b) { return {_mm_max_ps(a.v, b.v)}; }
    friend Vec abs(Vec a) { return {_mm_andnot_ps(sign_bits(), a.v)}; }
    friend Vec copysign(Vec a, Vec b) {
        return {_mm_or_ps(_mm_andnot_ps(sign_bits(), a.v), _mm_and_ps(sign_bits(), b.v))};
    }
    friend Vec where_positive(Vec a, Vec b) { return {_mm_and_ps(_mm_cmpgt_ps(a.v, _mm_setzero_ps()), b.v)}; }
    friend Vec exponent_bits(Vec biased) { return {_mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(biased.v), 23))}; }
    friend Vec zip_lo(Vec a, Vec b) { return {_mm_unpacklo_ps(a.v, b.v)}; }
    friend Vec zip_hi(Vec a, Vec b) { return {_mm_unpackhi_ps(a.v, b.v)}; }

    friend Vec low_bfloat16(Vec a) { return {_mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(a.v), 16))}; }
    friend Vec high_bfloat16(Vec a) {
        return {_mm_castsi128_ps(_mm_slli_epi32(_mm_srli_epi32(_mm_castps_si128(a.v), 16), 16))};
    }
    friend Vec round_bfloat16(Vec a) {
        const __m128i bits = _mm_castps_si128(a.v), odd = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
        const __m128i above = _mm_add_epi32(bits, _mm_add_epi32(odd, _mm_set1_epi32(0x7fff)));
        const __m128i quiet = _mm_or_si128(bits, _mm_set1_epi32(0x400000));
        const __m128 none = _mm_cmpunord_ps(a.v, a.v);
        return high_bfloat16(
            Vec{_mm_or_ps(_mm_andnot_ps(none, _mm_castsi128_ps(above)), _mm_and_ps(none, _mm_castsi128_ps(quiet)))});
    }
    friend Vec add_int32(Vec a, Vec b) {
        return {_mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(a.v), _mm_castps_si128(b.v)))};
    }
    friend Vec add_products_int16(Vec a, Vec b, Vec c) {
        return add_int32({_mm_castsi128_ps(_mm_madd_epi16(_mm_castps_si128(a.v), _mm_castps_si128(b.v)))}, c);
    }
    friend Vec from_int32(Vec a) { return {_mm_cvtepi32_ps(_mm_castps_si128(a.v))}; }
    friend Vec to_int32(Vec a) { return {_mm_castsi128_ps(_mm_cvtps_epi32(a.v))}; }
    void store_int16(std::int16_t* p) const {
        const __m128i words = _mm_castps_si128(v);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(words, words));
    }

private:
    static __m128 sign_bits() { return _mm_set1_ps(-0.0f); }
};

template <>
struct Vec<double> {
    using Real = double;
    static constexpr int kLanes = 2, kRegisters = 16, kUnrolled = 4;
    static constexpr bool kFused = false;
    __m128d v;

    static Vec load(const double* p) { return {_mm_loadu_pd(p)}; }
    static Vec load_n(const double* p, std::ptrdiff_t n) {
        return {n == 0 ? _mm_setzero_pd() : n == 1 ? _mm_load_sd(p) : _mm_loadu_pd(p)};
    }
    static Vec broadcast(double s) { return {_mm_set1_pd(s)}; }
    static Vec zero() { return {_mm_setzero_pd()}; }
    void store(double* p) const { _mm_storeu_pd(p, v); }
    static void prefetch(const double* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
    void store_n(double* p, std::ptrdiff_t n) const {
        if (n == 1) _mm_store_sd(p, v);
        if (n == 2) _mm_storeu_pd(p, v);
    }

    friend Vec operator+(Vec a, Vec b) { return {_mm_add_pd(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {_mm_sub_pd(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {_mm_mul_pd(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {_mm_div_pd(a.v, b.v)}; }
    friend Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
    friend Vec fnma(Vec a, Vec b, Vec c) { return c - a * b; }
    friend Vec min(Vec a, Vec b) { return {_mm_min_pd(a.v, b.v)}; }
    friend Vec max(Vec a, Vec b) { return {_mm_max_pd(a.v, b.v)}; }
    friend Vec abs(Vec a) { return {_mm_andnot_pd(sign_bits(), a.v)}; }
    friend Vec copysign(Vec a, Vec b) {
        return {_mm_or_pd(_mm_andnot_pd(sign_bits(), a.v), _mm_and_pd(sign_bits(), b.v))};
    }
    friend Vec where_positive(Vec a, Vec b) { return {_mm_and_pd(_mm_cmpgt_pd(a.v, _mm_setzero_pd()), b.v)}; }
    friend Vec exponent_bits(Vec biased) { return {_mm_castsi128_pd(_mm_slli_epi64(_mm_castpd_si128(biased.v), 52))}; }
    friend Vec zip_lo(Vec a, Vec b) { return {_mm_unpacklo_pd(a.v, b.v)}; }
    friend Vec zip_hi(Vec a, Vec b) { return {_mm_unpackhi_pd(a.v, b.v)}; }

private:
    static __m128d sign_bits() { return _mm_set1_pd(-0.0); }
};

struct Bits {
    static constexpr int kLanes = 2;
    __m128i v;

    static Bits load(const void* p) { return {_mm_loadu_si128(static_cast<const __m128i*>(p))}; }
    static Bits broadcast(std::uint64_t s) { return {_mm_set1_epi64x(static_cast<long long>(s))}; }
    void store(std::uint64_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }

    friend Bits operator+(Bits a, Bits b) { return {_mm_add_epi64(a.v, b.v)}; }
    friend Bits add_halves(Bits a, Bits b) { return {_mm_add_epi32(a.v, b.v)}; }
    friend Bits low_product(Bits a, Bits b) { return {_mm_mul_epu32(a.v, b.v)}; }
    friend Bits operator^(Bits a, Bits b) { return {_mm_xor_si128(a.v, b.v)}; }
    template <int n>
    Bits left() const {
        return {_mm_slli_epi64(v, n)};
    }
    template <int n>
    Bits right() const {
        return {_mm_srli_epi64(v, n)};
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
