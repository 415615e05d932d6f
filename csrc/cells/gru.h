// The GRU of Cho et al. (2014). z keeps the old state:  h = (1 - z) * n + z * h'
//
//   r, z = sigmoid(...)
//   n = tanh(W_in x + b_in + r * (W_hn h' + b_hn))    reset after the product, as cuDNN and PyTorch have it
//   n = tanh(W_in x + b_in + W_hn (r * h') + b_hn)    reset before the product, as published
#pragma once

#include "general.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class V>
struct GruResetAfter : Plain {
    using Real = typename V::Real;
    enum State { H };
    enum Gate { R, Z, N };
    enum Saved { SavedR, SavedZ, SavedN, HiddenN };
    // n's sum has two gradients, dInputN and dHiddenN = r * dInputN. In this order the input's three and the hidden
    // state's three each lie together.
    enum Gradient { DInputN, DR, DZ, DHiddenN };
    static constexpr int kStates = 1, kGates = 3, kSaved = 4, kGradients = 4;
    static constexpr bool kCarriesH = true;
    static constexpr int kPhases = 1;
    static constexpr Phase kForward[] = {{R, 3, kPreviousH, 0b1111}};
    static constexpr Phase kBackward[] = {{DR, 3, kNextGradients, 0b1111}};
    static constexpr int kInputGradient[] = {DR, DZ, DInputN}, kHiddenGradient[] = {DR, DZ, DHiddenN};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        saved[SavedR] = sigmoid<Real>(x[R] + hidden[R]);
        saved[SavedZ] = sigmoid<Real>(x[Z] + hidden[Z]);
        saved[HiddenN] = hidden[N];
        saved[SavedN] = tanh<Real>(fma(saved[SavedR], hidden[N], x[N]));
        restore(saved, prev, own, next);
    }

    static void restore(const V* saved, const V* prev, Own<V>, V* next) {
        next[H] = fma(saved[SavedZ], prev[H] - saved[SavedN], saved[SavedN]);
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V>, const V*, V, const V* dnext, V* dgate, V* dprev) {
        const V one = V::broadcast(1);
        const V r = saved[SavedR], z = saved[SavedZ], n = saved[SavedN];
        dgate[DInputN] = dnext[H] * (one - z) * fnma(n, n, one);
        dgate[DR] = dgate[DInputN] * saved[HiddenN] * r * (one - r);
        dgate[DZ] = dnext[H] * (prev[H] - n) * z * (one - z);
        dgate[DHiddenN] = dgate[DInputN] * r;
        dprev[H] = dnext[H] * z;
    }
};

// With layer normalisation (Ba et al., 2016) over the units of r's and z's sums and of both of n's, a gain and a shift
// for each unit:
//   r, z = sigmoid(gain * normalise(W_ih x + W_hh h') + shift)
//   n = tanh(gain * normalise(W_in x) + shift + r * (gain * normalise(W_hn h') + shift))
template <class V>
struct GruNormalised : GruResetAfter<V> {
    using Real = typename V::Real;
    using Base = GruResetAfter<V>;
    using Base::DInputN, Base::DR, Base::DZ, Base::DHiddenN;
    using Base::H, Base::R, Base::Z, Base::N, Base::SavedR, Base::SavedZ, Base::SavedN;
    // In the order of the gradients, which the loop makes gradients of the sums.
    enum Saved { InputN = 3, SumR, SumZ, HiddenN };
    enum Vector { GainR, GainZ, GainInputN, GainHiddenN, ShiftR, ShiftZ, ShiftInputN, ShiftHiddenN };
    enum Gradient { DGain = Base::kGradients, DShift = DGain + 4 };
    static constexpr int kSaved = 7, kVectors = 8, kLearned = 8;
    static constexpr int kNormalised = 4, kFirstNormalised = InputN;
    static constexpr int kPhases = 2;
    static constexpr Phase kForward[] = {{R, 3, kPreviousH, 0b1111000}, {R, 3, kNothing, 0b111}};
    static constexpr Phase kBackward[] = {{DR, 3, kNextGradients, 0b111111111111}, {DR, 0, kNothing, 0}};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        if constexpr (phase == 0) {
            saved[SumR] = x[R] + hidden[R];
            saved[SumZ] = x[Z] + hidden[Z];
            saved[InputN] = x[N];
            saved[HiddenN] = hidden[N];
        } else {
            saved[SavedR] = sigmoid<Real>(fma(own[GainR], saved[SumR], own[ShiftR]));
            saved[SavedZ] = sigmoid<Real>(fma(own[GainZ], saved[SumZ], own[ShiftZ]));
            const V input = fma(own[GainInputN], saved[InputN], own[ShiftInputN]);
            saved[SavedN] = tanh<Real>(fma(saved[SavedR], hidden_part(saved, own), input));
            Base::restore(saved, prev, own, next);
        }
    }

    static V hidden_part(const V* saved, Own<V> own) {
        return fma(own[GainHiddenN], saved[HiddenN], own[ShiftHiddenN]);
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V> own, const V*, V, const V* dnext, V* dgate, V* dprev) {
        if constexpr (phase > 0) return;
        const V one = V::broadcast(1);
        const V r = saved[SavedR], z = saved[SavedZ], n = saved[SavedN];
        const V dinput = dnext[H] * (one - z) * fnma(n, n, one);
        const V d[] = {dinput * hidden_part(saved, own) * r * (one - r), dnext[H] * (prev[H] - n) * z * (one - z),
                       dinput, dinput * r};
        constexpr int sum[] = {SumR, SumZ, InputN, HiddenN}, gradient[] = {DR, DZ, DInputN, DHiddenN};
        for (int i = 0; i < 4; ++i) {
            dgate[DGain + i] = d[i] * saved[sum[i]];
            dgate[DShift + i] = d[i];
            dgate[gradient[i]] = d[i] * own[GainR + i];
        }
        dprev[H] = dnext[H] * z;
    }
};

// Two products a step: n's needs r * h' of every unit.
template <class V>
struct GruResetBefore : Plain {
    using Real = typename V::Real;
    enum State { H };
    enum Gate { R, Z, N };
    enum Saved { SavedR, SavedZ, SavedN, ResetH };
    static constexpr int kStates = 1, kGates = 3, kSaved = 4, kGradients = 3;
    static constexpr bool kCarriesH = true;
    static constexpr int kMaskedPlane = ResetH;
    static constexpr int kPhases = 2;
    static constexpr Phase kForward[] = {{R, 2, kPreviousH, 1u << SavedR | 1u << SavedZ | 1u << ResetH},
                                         {N, 1, ResetH, 1u << SavedN}};
    static constexpr Phase kBackward[] = {{R, 2, kNextGradients, 1u << Z | 1u << N}, {N, 1, kSameGradients, 1u << R}};
    static constexpr int kInputGradient[] = {R, Z, N}, kHiddenGradient[] = {R, Z, N};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        if constexpr (phase == 0) {
            saved[SavedR] = sigmoid<Real>(x[R] + hidden[R]);
            saved[SavedZ] = sigmoid<Real>(x[Z] + hidden[Z]);
            saved[ResetH] = saved[SavedR] * prev[H];
        } else {
            saved[SavedN] = tanh<Real>(x[N] + hidden[N]);
            restore(saved, prev, own, next);
        }
    }

    static void restore(const V* saved, const V* prev, Own<V>, V* next) {
        next[H] = fma(saved[SavedZ], prev[H] - saved[SavedN], saved[SavedN]);
    }

    // Phase 0 knows dL/dh and gives what does not pass through r * h'; phase 1 gets dL/d(r * h') as `product`.
    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V>, const V*, V product, const V* dnext, V* dgate,
                         V* dprev) {
        const V one = V::broadcast(1);
        const V r = saved[SavedR], z = saved[SavedZ], n = saved[SavedN];
        if constexpr (phase == 0) {
            dgate[N] = dnext[H] * (one - z) * fnma(n, n, one);
            dgate[Z] = dnext[H] * (prev[H] - n) * z * (one - z);
            dprev[H] = dnext[H] * z;
        } else {
            dgate[R] = product * prev[H] * r * (one - r);
            dprev[H] = fma(product, r, dprev[H]);
        }
    }
};

// r, z = f(...) and n = g(...), and f and g are data.
template <class V>
struct GruGeneralAfter : GruResetAfter<V> {
    using Base = GruResetAfter<V>;
    using Base::DHiddenN, Base::DInputN, Base::DR, Base::DZ;
    using Base::H, Base::HiddenN, Base::N, Base::R, Base::SavedN, Base::SavedR, Base::SavedZ, Base::Z;
    static constexpr int kActivations = 2;

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        saved[SavedR] = x[R] + hidden[R];
        saved[SavedZ] = x[Z] + hidden[Z];
        open_gates(own, 0, saved + SavedR, 2);
        saved[HiddenN] = hidden[N];
        saved[SavedN] = fma(saved[SavedR], hidden[N], x[N]);
        open_gates(own, 1, saved + SavedN, 1);
        Base::restore(saved, prev, own, next);
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V> own, const V*, V, const V* dnext, V* dgate, V* dprev) {
        dgate[DInputN] = dnext[H] * (V::broadcast(1) - saved[SavedZ]);
        open_gates_backward(own, 1, saved + SavedN, dgate + DInputN, 1);
        dgate[DR] = dgate[DInputN] * saved[HiddenN];
        dgate[DZ] = dnext[H] * (prev[H] - saved[SavedN]);
        open_gates_backward(own, 0, saved + SavedR, dgate + DR, 2);
        dgate[DHiddenN] = dgate[DInputN] * saved[SavedR];
        dprev[H] = dnext[H] * saved[SavedZ];
    }
};

template <class V>
struct GruGeneralBefore : GruResetBefore<V> {
    using Base = GruResetBefore<V>;
    using Base::H, Base::N, Base::R, Base::ResetH, Base::SavedN, Base::SavedR, Base::SavedZ, Base::Z;
    static constexpr int kActivations = 2;

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        if constexpr (phase == 0) {
            saved[SavedR] = x[R] + hidden[R];
            saved[SavedZ] = x[Z] + hidden[Z];
            open_gates(own, 0, saved + SavedR, 2);
            saved[ResetH] = saved[SavedR] * prev[H];
        } else {
            saved[SavedN] = x[N] + hidden[N];
            open_gates(own, 1, saved + SavedN, 1);
            Base::restore(saved, prev, own, next);
        }
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V> own, const V*, V product, const V* dnext, V* dgate,
                         V* dprev) {
        if constexpr (phase == 0) {
            dgate[N] = dnext[H] * (V::broadcast(1) - saved[SavedZ]);
            open_gates_backward(own, 1, saved + SavedN, dgate + N, 1);
            dgate[Z] = dnext[H] * (prev[H] - saved[SavedN]);
            open_gates_backward(own, 0, saved + SavedZ, dgate + Z, 1);
            dprev[H] = dnext[H] * saved[SavedZ];
        } else {
            dgate[R] = product * prev[H];
            open_gates_backward(own, 0, saved + SavedR, dgate + R, 1);
            dprev[H] = fma(product, saved[SavedR], dprev[H]);
        }
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
