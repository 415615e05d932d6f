// NEON vectors: every arm64 processor has them.
//
// The same small vector type in every vec_*.h: see vec_avx512.h for what each operation promises.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#define FASTRNN_PREFETCH(p) __prefetch(p)
#else
#define FASTRNN_PREFETCH(p) __builtin_prefetch(p, 0, 3)
#endif

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class Real>
struct Vec;

template <>
struct Vec<float> {
    using Real = float;
    static constexpr int kLanes = 4, kRegisters = 32, kUnrolled = 8;
    static constexpr bool kFused = true;
    float32x4_t v;

    static Vec load(const float* p) { return {vld1q_f32(p)}; }
    static Vec load_n(const float* p, std::ptrdiff_t n) {
        float lane[kLanes] = {};
        for (std::ptrdiff_t i = 0; i < n; ++i) lane[i] = p[i];
        return {vld1q_f32(lane)};
    }
    static Vec broadcast(float s) { return {vdupq_n_f32(s)}; }
    static Vec zero() { return {vdupq_n_f32(0)}; }
    void store(float* p) const { vst1q_f32(p, v); }
    static void prefetch(const float* p) { FASTRNN_PREFETCH(p); }
    void store_n(float* p, std::ptrdiff_t n) const {
        float lane[kLanes];
        vst1q_f32(lane, v);
        for (std::ptrdiff_t i = 0; i < n; ++i) p[i] = lane[i];
    }

    friend Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
    friend Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
    friend Vec fnma(Vec a, Vec b, Vec c) { return {vfmsq_f32(c.v, a.v, b.v)}; }
    // vminq and vmaxq return NaN where either is NaN; of the kernels' operands only the second can be.
    friend Vec min(Vec a, Vec b) { return {vminq_f32(a.v, b.v)}; }
    friend Vec max(Vec a, Vec b) { return {vmaxq_f32(a.v, b.v)}; }
    friend Vec abs(Vec a) { return {vabsq_f32(a.v)}; }
    friend Vec copysign(Vec a, Vec b) { return {vbslq_f32(vreinterpretq_u32_f32(vdupq_n_f32(-0.0f)), b.v, a.v)}; }
    friend Vec where_positive(Vec a, Vec b) {
        return {vreinterpretq_f32_u32(vandq_u32(vcgtq_f32(a.v, vdupq_n_f32(0)), vreinterpretq_u32_f32(b.v)))};
    }
    friend Vec exponent_bits(Vec biased) {
        return {vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(biased.v), 23))};
    }
    friend Vec zip_lo(Vec a, Vec b) { return {vzip1q_f32(a.v, b.v)}; }
    friend Vec zip_hi(Vec a, Vec b) { return {vzip2q_f32(a.v, b.v)}; }

    friend Vec low_bfloat16(Vec a) { return {vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a.v), 16))}; }
    friend Vec high_bfloat16(Vec a) {
        return {vreinterpretq_f32_u32(vshlq_n_u32(vshrq_n_u32(vreinterpretq_u32_f32(a.v), 16), 16))};
    }
    friend Vec round_bfloat16(Vec a) {
        const uint32x4_t bits = vreinterpretq_u32_f32(a.v), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        const uint32x4_t above = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
        return high_bfloat16(Vec{vreinterpretq_f32_u32(vbslq_u32(vceqq_f32(a.v, a.v), above, quiet))});
    }
    friend Vec add_int32(Vec a, Vec b) {
        return {vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a.v), vreinterpretq_s32_f32(b.v)))};
    }
    friend Vec add_products_int16(Vec a, Vec b, Vec c) {
        const int16x8_t x = vreinterpretq_s16_f32(a.v), y = vreinterpretq_s16_f32(b.v);
        const int32x4_t sums = vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
        return add_int32({vreinterpretq_f32_s32(sums)}, c);
    }
    friend Vec from_int32(Vec a) { return {vcvtq_f32_s32(vreinterpretq_s32_f32(a.v))}; }
    friend Vec to_int32(Vec a) { return {vreinterpretq_f32_s32(vcvtnq_s32_f32(a.v))}; }
    void store_int16(std::int16_t* p) const { vst1_s16(p, vmovn_s32(vreinterpretq_s32_f32(v))); }
#ifdef FASTRNN_DOT_BFLOAT16
    friend Vec add_products_bfloat16(Vec a, Vec b, Vec c) {
        return {vbfdotq_f32(c.v, vreinterpretq_bf16_f32(a.v), vreinterpretq_bf16_f32(b.v))};
    }
    void store_bfloat16(std::uint16_t* p) const { vst1_u16(p, vreinterpret_u16_bf16(vcvt_bf16_f32(v))); }
#endif
#ifdef FASTRNN_DOT_INT8
    static constexpr std::uint32_t kInt8Offset = 0;
    friend Vec add_products_int8(Vec a, Vec b, Vec c) {
        return {vreinterpretq_f32_s32(
            vdotq_s32(vreinterpretq_s32_f32(c.v), vreinterpretq_s8_f32(a.v), vreinterpretq_s8_f32(b.v)))};
    }
    void store_int8(std::int8_t* p) const {
        const int16x4_t halves = vmovn_s32(vreinterpretq_s32_f32(v));
        const int8x8_t twice = vmovn_s16(vcombine_s16(halves, halves));
        std::memcpy(p, &twice, kLanes);
    }
#endif
};

template <>
struct Vec<double> {
    using Real = double;
    static constexpr int kLanes = 2, kRegisters = 32, kUnrolled = 4;
    static constexpr bool kFused = true;
    float64x2_t v;

    static Vec load(const double* p) { return {vld1q_f64(p)}; }
    static Vec load_n(const double* p, std::ptrdiff_t n) {
        return {n == 0 ? vdupq_n_f64(0) : n == 1 ? vsetq_lane_f64(*p, vdupq_n_f64(0), 0) : vld1q_f64(p)};
    }
    static Vec broadcast(double s) { return {vdupq_n_f64(s)}; }
    static Vec zero() { return {vdupq_n_f64(0)}; }
    void store(double* p) const { vst1q_f64(p, v); }
    static void prefetch(const double* p) { FASTRNN_PREFETCH(p); }
    void store_n(double* p, std::ptrdiff_t n) const {
        if (n >= 1) p[0] = vgetq_lane_f64(v, 0);
        if (n == 2) p[1] = vgetq_lane_f64(v, 1);
    }

    friend Vec operator+(Vec a, Vec b) { return {vaddq_f64(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {vsubq_f64(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {vmulq_f64(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {vdivq_f64(a.v, b.v)}; }
    friend Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
    friend Vec fnma(Vec a, Vec b, Vec c) { return {vfmsq_f64(c.v, a.v, b.v)}; }
    // vminq and vmaxq return NaN where either is NaN; of the kernels' operands only the second can be.
    friend Vec min(Vec a, Vec b) { return {vminq_f64(a.v, b.v)}; }
    friend Vec max(Vec a, Vec b) { return {vmaxq_f64(a.v, b.v)}; }
    friend Vec abs(Vec a) { return {vabsq_f64(a.v)}; }
    friend Vec copysign(Vec a, Vec b) { return {vbslq_f64(vreinterpretq_u64_f64(vdupq_n_f64(-0.0)), b.v, a.v)}; }
    friend Vec where_positive(Vec a, Vec b) {
        return {vreinterpretq_f64_u64(vandq_u64(vcgtq_f64(a.v, vdupq_n_f64(0)), vreinterpretq_u64_f64(b.v)))};
    }
    friend Vec exponent_bits(Vec biased) {
        return {vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(biased.v), 52))};
    }
    friend Vec zip_lo(Vec a, Vec b) { return {vzip1q_f64(a.v, b.v)}; }
    friend Vec zip_hi(Vec a, Vec b) { return {vzip2q_f64(a.v, b.v)}; }
};

struct Bits {
    static constexpr int kLanes = 2;
    uint64x2_t v;

    static Bits load(const void* p) { return {vreinterpretq_u64_u8(vld1q_u8(static_cast<const std::uint8_t*>(p)))}; }
    static Bits broadcast(std::uint64_t s) { return {vdupq_n_u64(s)}; }
    void store(std::uint64_t* p) const { vst1q_u64(p, v); }

    friend Bits operator+(Bits a, Bits b) { return {vaddq_u64(a.v, b.v)}; }
    friend Bits add_halves(Bits a, Bits b) {
        return {vreinterpretq_u64_u32(vaddq_u32(vreinterpretq_u32_u64(a.v), vreinterpretq_u32_u64(b.v)))};
    }
    friend Bits low_product(Bits a, Bits b) { return {vmull_u32(vmovn_u64(a.v), vmovn_u64(b.v))}; }
    friend Bits operator^(Bits a, Bits b) { return {veorq_u64(a.v, b.v)}; }
    template <int n>
    Bits left() const {
        return {vshlq_n_u64(v, n)};
    }
    template <int n>
    Bits right() const {
        return {vshrq_n_u64(v, n)};
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
