// exp, tanh, sigmoid and what other activations need on vectors.
//
// Error bounds, in units in the last place of the result, over all inputs, tested by tests/test_math.py:
//   exp 2, tanh 4, sigmoid 4, softplus 6; expm1 4, of numbers up to 0.
// Results below the smallest normal number are flushed to zero, and so are denormal inputs, since kernels run with
// denormals off. Infinities saturate; NaN stays NaN; tanh is odd, bit for bit.
//
// All come from one reduction (Cody and Waite 1980): x = n ln 2 + r, |r| <= ln(2) / 2, and the polynomial
// expm1(r) = r + r^2 q(r), q fitted by Remez's exchange so that expm1's relative error is least.
#pragma once

#include "vec.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class Real>
struct ExpConstants;

template <>
struct ExpConstants<float> {
    static constexpr float ln2_hi = 0.693145751953125f, ln2_lo = 1.4286068203094172e-6f;
    // 1.5 * 2^23 + 127: adding it rounds to an integer and leaves that integer, biased as an exponent, in the low bits.
    static constexpr float round_to_exponent = 12582912.0f + 127.0f;
    static constexpr float overflows = 89.0f, underflows = -105.0f;  // exp has its limits inside these
    static constexpr float largest = 88.0f;  // exp(largest) is below 2^127, exp(-largest) not normal
    static constexpr float tanh_is_one = 10.0f;
    // Relative error of expm1 2^-26.2.
    static constexpr float q[] = {0.49999998144133674f, 0.16666543178592426f, 0.041667201697396098f,
                                  0.0083665803119196895f, 0.0013882516607217702f};
};

template <>
struct ExpConstants<double> {
    static constexpr double ln2_hi = 0.6931471803691238, ln2_lo = 1.9082149292705877e-10;
    static constexpr double round_to_exponent = 6755399441055744.0 + 1023.0;  // 1.5 * 2^52 + 1023
    static constexpr double overflows = 710.0, underflows = -746.0;
    static constexpr double largest = 709.0;
    static constexpr double tanh_is_one = 20.0;
    // Relative error of expm1 2^-61.7.
    static constexpr double q[] = {0.50000000000000000086,     0.16666666666666676595,   0.04166666666666650724,
                                   0.0083333333333216085064,   0.0013888888888962969405, 0.00019841269886204980962,
                                   0.000024801587171689356231, 2.7557244107315185476e-6, 2.7557403084079984206e-7,
                                   2.510908028175768327e-8,    2.0875281065224788202e-9};
};

// log1p(u) = 2 atanh(t / 2) = t + t z q(z), with t = u / (1 + u / 2) and z = (t / 2)^2, for u from 0 to 1: q fitted
// likewise.
template <class Real>
struct Log1pConstants;

template <>
struct Log1pConstants<float> {
    // Relative error of log1p 2^-27.7.
    static constexpr float q[] = {0.33333208142922659304f, 0.20010763620129994366f, 0.14000902589485359084f,
                                  0.14005993726850616055f};
};

template <>
struct Log1pConstants<double> {
    // Relative error of log1p 2^-64.6.
    static constexpr double q[] = {0.33333333333333339064, 0.19999999999997030919, 0.14285714286248640802,
                                   0.1111111106321303601,  0.09090911580884972868, 0.0769222651405129303,
                                   0.06668393582330905059, 0.05858077004548228002, 0.05485596676197590125,
                                   0.03499740988763672444, 0.08229513745623800426};
};

// Coefficients [first, first + count) of q as a polynomial in x, by Estrin's scheme: halves of it side by side, since
// latency is what a step with batch 1 waits for. power[i] is x^(2^i).
template <class Constants, int first, int count, class V>
inline V polynomial(const V* power) {
    constexpr int half = count > 8 ? 8 : count > 5 ? 4 : count > 2 ? 2 : 1;
    constexpr int exponent = half == 8 ? 3 : half == 4 ? 2 : half == 2 ? 1 : 0;
    if constexpr (count == 1)
        return V::broadcast(Constants::q[first]);
    else
        return fma(polynomial<Constants, first + half, count - half>(power), power[exponent],
                   polynomial<Constants, first, half>(power));
}

// All of q.
template <class Constants, class V>
inline V polynomial(V x) {
    const V x2 = x * x, x4 = x2 * x2;
    const V power[] = {x, x2, x4, x4 * x4};
    return polynomial<Constants, 0, static_cast<int>(sizeof Constants::q / sizeof Constants::q[0])>(power);
}

// exp(x) = (1 + fraction) * 2^n, with n kept in `rounded` as ExpConstants::round_to_exponent leaves it.
template <class V>
struct ReducedExp {
    V fraction;  // expm1(r)
    V rounded;
    V n;
};

template <class Real, class V = Vec<Real>>
inline ReducedExp<V> reduced_exp(V x) {
    using K = ExpConstants<Real>;
    const V bias = V::broadcast(K::round_to_exponent);
    const V rounded = fma(x, V::broadcast(static_cast<Real>(1.442695040888963407)), bias);
    const V n = rounded - bias;
    const V r = fnma(n, V::broadcast(K::ln2_lo), fnma(n, V::broadcast(K::ln2_hi), x));
    return {fma(r * r, polynomial<K>(r), r), rounded, n};
}

template <class Real, class V = Vec<Real>>
inline V exp(V x) {
    using K = ExpConstants<Real>;
    x = max(V::broadcast(K::underflows), min(V::broadcast(K::overflows), x));
    const ReducedExp<V> e = reduced_exp<Real>(x);
    // 2^n need not be a number where exp(x) is one: multiply by 2^(n/2) rounded either way.
    const V bias = V::broadcast(K::round_to_exponent);
    const V half = fma(e.n, V::broadcast(static_cast<Real>(0.5)), bias);
    const V rest = (e.n - (half - bias)) + bias;
    const V scale = exponent_bits(half);
    return fma(e.fraction, scale, scale) * exponent_bits(rest);
}

// exp(x) / (exp(x) + 1). Where exp(x) is clamped, the result is 1, or below the smallest normal number.
template <class Real, class V = Vec<Real>>
inline V sigmoid(V x) {
    using K = ExpConstants<Real>;
    const V limit = V::broadcast(K::largest);
    const ReducedExp<V> e = reduced_exp<Real>(min(limit, max(V::zero() - limit, x)));
    const V scale = exponent_bits(e.rounded);
    const V one = V::broadcast(static_cast<Real>(1));
    // Without a fused multiply-add, fraction * scale may be too small for a number.
    const V exp_x = V::kFused ? fma(e.fraction, scale, scale) : (e.fraction + one) * scale;
    return exp_x / (exp_x + one);
}

// With e = expm1(2|x|): tanh|x| = e / (e + 2), which keeps full relative precision at small x.
template <class Real, class V = Vec<Real>>
inline V tanh(V x) {
    using K = ExpConstants<Real>;
    const V magnitude = min(V::broadcast(K::tanh_is_one), abs(x));
    const ReducedExp<V> e = reduced_exp<Real>(magnitude + magnitude);
    const V scale = exponent_bits(e.rounded);
    const V expm1 = fma(scale, e.fraction, scale - V::broadcast(static_cast<Real>(1)));
    return copysign(expm1 / (expm1 + V::broadcast(static_cast<Real>(2))), x);
}

// exp(x) - 1 with full relative precision, for x up to 0.
template <class Real, class V = Vec<Real>>
inline V expm1_of_negative(V x) {
    const ReducedExp<V> e = reduced_exp<Real>(max(V::broadcast(-ExpConstants<Real>::largest), x));
    const V scale = exponent_bits(e.rounded);
    return fma(scale, e.fraction, scale - V::broadcast(static_cast<Real>(1)));
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))
template <class Real, class V = Vec<Real>>
inline V softplus(V x) {
    const V u = exp<Real>(V::zero() - abs(x));
    const V half = V::broadcast(static_cast<Real>(0.5));
    const V t = u / fma(u, half, V::broadcast(1));  // about u where that is small, and as much a number
    const V z = t * half * (t * half);
    const V log1p = fma(t * z, polynomial<Log1pConstants<Real>>(z), t);
    return max(V::zero(), x) + log1p;
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
