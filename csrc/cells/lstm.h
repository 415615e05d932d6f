// The LSTM of Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000):
//   i, f, o = sigmoid(...)   g = tanh(...)   c = f * c' + i * g   h = o * tanh(c)
#pragma once

#include "phase.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class V>
struct Lstm : Plain {
    using Real = typename V::Real;
    enum State { H, C };
    enum Gate { I, F, G, O };
    static constexpr int kStates = 2, kGates = 4, kSaved = 4, kGradients = 4;
    static constexpr bool kCarriesH = false;
    static constexpr int kPhases = 1;
    static constexpr Phase kForward[] = {{I, 4, kPreviousH, 0b1111}};
    static constexpr Phase kBackward[] = {{I, 4, kNextGradients, 0b1111}};
    static constexpr int kInputGradient[] = {I, F, G, O}, kHiddenGradient[] = {I, F, G, O};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, const V* own, V* saved, V* next) {
        saved[I] = sigmoid<Real>(x[I] + hidden[I]);
        saved[F] = sigmoid<Real>(x[F] + hidden[F]);
        saved[G] = tanh<Real>(x[G] + hidden[G]);
        saved[O] = sigmoid<Real>(x[O] + hidden[O]);
        restore(saved, prev, own, next);
    }

    static void restore(const V* saved, const V* prev, const V*, V* next) {
        next[C] = fma(saved[F], prev[C], saved[I] * saved[G]);
        next[H] = saved[O] * tanh<Real>(next[C]);
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, const V*, const V* next, V, const V* dnext, V* dgate,
                         V* dprev) {
        backward_from(dnext[H], saved, prev, next, dnext, dgate, dprev);
    }

    // d_output: by o * tanh(c).
    static void backward_from(V d_output, const V* saved, const V* prev, const V* next, const V* dnext, V* dgate,
                              V* dprev) {
        const V one = V::broadcast(1);
        const V tanh_c = tanh<Real>(next[C]);  // cheaper to compute again than to store and load
        const V dc = fma(d_output * saved[O], fnma(tanh_c, tanh_c, one), dnext[C]);
        dgate[I] = dc * saved[G] * saved[I] * (one - saved[I]);
        dgate[F] = dc * prev[C] * saved[F] * (one - saved[F]);
        dgate[G] = dc * saved[I] * fnma(saved[G], saved[G], one);
        dgate[O] = d_output * tanh_c * saved[O] * (one - saved[O]);
        dprev[C] = dc * saved[F];
    }
};

// With the projection of Sak et al. (2014):  h = W_hr (o * tanh(c))
// W_hr is gate R of W_hh, without input and bias. It makes P numbers, which are all of h that W_hh meets; in arrays of
// H units the others are zeros.
template <class V>
struct LstmProjected : Lstm<V> {
    using Real = typename V::Real;
    using Base = Lstm<V>;
    using Base::C, Base::F, Base::G, Base::H, Base::I, Base::O;
    enum Projection { R = Base::kGates };
    enum Saved { Output = Base::kSaved, SavedH };
    static constexpr int kSaved = 6, kGradients = 5;
    static constexpr int kPhases = 2;
    static constexpr Phase kForward[] = {{I, 4, kPreviousH, 0b1111 | 1u << Output}, {R, 1, Output, 1u << SavedH}};
    static constexpr Phase kBackward[] = {{I, 4, kNextGradients, 1u << R}, {R, 1, kSameGradients, 0b1111}};
    static constexpr int kHiddenGradient[] = {I, F, G, O, R};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, const V* own, V* saved, V* next) {
        if constexpr (phase == 0) {
            Base::template forward<0>(x, hidden, prev, own, saved, next);
            saved[Output] = next[H];
        } else {
            saved[SavedH] = hidden[R];
            restore(saved, prev, own, next);
        }
    }

    static void restore(const V* saved, const V* prev, const V*, V* next) {
        next[C] = fma(saved[F], prev[C], saved[I] * saved[G]);
        next[H] = saved[SavedH];
    }

    // Phase 0 knows dL/dh; phase 1 gets dL/d(o * tanh(c)) as `product`.
    template <int phase>
    static void backward(const V* saved, const V* prev, const V*, const V* next, V product, const V* dnext, V* dgate,
                         V* dprev) {
        if constexpr (phase == 0)
            dgate[R] = dnext[H];
        else
            Base::backward_from(product, saved, prev, next, dnext, dgate, dprev);
    }
};

// With layer normalisation (Ba et al., 2016) of each gate's sum over the units, a gain and a shift for each unit:
//   i, f, o = sigmoid(gain * normalise(W_ih x + W_hh h') + shift)   g = tanh(likewise)
template <class V>
struct LstmNormalised : Lstm<V> {
    using Real = typename V::Real;
    using Base = Lstm<V>;
    using Base::C, Base::F, Base::G, Base::H, Base::I, Base::O;
    enum Saved { Normalised = Base::kSaved };  // and three more
    enum Vector { Gain, Shift = Base::kGates };
    enum Gradient { DGain = Base::kGradients, DShift = 2 * Base::kGradients };
    static constexpr int kSaved = 8, kVectors = 8, kLearned = 8;
    static constexpr int kNormalised = 4, kFirstNormalised = Normalised;
    static constexpr int kPhases = 2;
    static constexpr Phase kForward[] = {{I, 4, kPreviousH, 0b11110000}, {I, 4, kNothing, 0b1111}};
    static constexpr Phase kBackward[] = {{I, 4, kNextGradients, 0b111111111111}, {I, 0, kNothing, 0}};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, const V* own, V* saved, V* next) {
        if constexpr (phase == 0) {
            for (int g = 0; g < Base::kGates; ++g) saved[Normalised + g] = x[g] + hidden[g];
        } else {
            const auto sum = [&](int g) { return fma(own[Gain + g], saved[Normalised + g], own[Shift + g]); };
            saved[I] = sigmoid<Real>(sum(I));
            saved[F] = sigmoid<Real>(sum(F));
            saved[G] = tanh<Real>(sum(G));
            saved[O] = sigmoid<Real>(sum(O));
            Base::restore(saved, prev, own, next);
        }
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, const V* own, const V* next, V, const V* dnext, V* dgate,
                         V* dprev) {
        if constexpr (phase > 0) return;
        Base::backward_from(dnext[H], saved, prev, next, dnext, dgate, dprev);
        for (int g = 0; g < Base::kGates; ++g) {
            dgate[DGain + g] = dgate[g] * saved[Normalised + g];
            dgate[DShift + g] = dgate[g];
            dgate[g] = dgate[g] * own[Gain + g];
        }
    }
};

// The LSTM with what others have added to it, each of which may be off:
//   peepholes of Gers et al. (2002): i and f look at c', o looks at c, each through a weight of its own
//   coupled gates: f = 1 - i (Greff et al., 2017)
//   a limit to c: c = min(max(f * c' + i * g, -limit), limit)
//   a limit to what goes into the gates' activations (ONNX's clip)
template <class V>
struct LstmPeephole : Lstm<V> {
    using Real = typename V::Real;
    using Base = Lstm<V>;
    using Base::C, Base::F, Base::G, Base::H, Base::I, Base::O;
    // Coupled is 0 or 1, and a limit infinity where there is none.
    enum Vector { PeepI, PeepF, PeepO, Coupled, Limit, GateLimit };
    enum Gradient { DPeepI = Base::kGradients, DPeepF, DPeepO };
    static constexpr int kVectors = 6, kLearned = 3;
    static constexpr Phase kBackward[] = {{I, 4, kNextGradients, 0b1111111}};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, const V* own, V* saved, V* next) {
        const V limit = own[GateLimit];
        saved[I] = sigmoid<Real>(limited(fma(own[PeepI], prev[C], x[I] + hidden[I]), limit));
        const V f = sigmoid<Real>(limited(fma(own[PeepF], prev[C], x[F] + hidden[F]), limit));
        saved[F] = fma(own[Coupled], V::broadcast(1) - saved[I] - f, f);
        saved[G] = tanh<Real>(limited(x[G] + hidden[G], limit));
        next[C] = cell_state(saved, prev, own);
        saved[O] = sigmoid<Real>(limited(fma(own[PeepO], next[C], x[O] + hidden[O]), limit));
        next[H] = saved[O] * tanh<Real>(next[C]);
    }

    // Between -limit and limit, and NaN where a is.
    static V limited(V a, V limit) { return V::zero() - max(V::zero() - limit, V::zero() - max(V::zero() - limit, a)); }
    static V cell_state(const V* saved, const V* prev, const V* own) {
        return limited(fma(saved[F], prev[C], saved[I] * saved[G]), own[Limit]);
    }
    // d where an activation is not at its limits. Of a gate's sum, only what the activation made of it is left: the
    // limits are recognised by the activation having come out at what it makes of them.
    static V inside(V d, V activation, V least, V most) {
        return where_positive(most - activation, where_positive(activation - least, d));
    }

    static void restore(const V* saved, const V* prev, const V* own, V* next) {
        next[C] = cell_state(saved, prev, own);
        next[H] = saved[O] * tanh<Real>(next[C]);
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, const V* own, const V* next, V, const V* dnext, V* dgate,
                         V* dprev) {
        const V one = V::broadcast(1);
        const V tanh_c = tanh<Real>(next[C]);
        const V least = sigmoid<Real>(V::zero() - own[GateLimit]), most = sigmoid<Real>(own[GateLimit]);
        const V most_g = tanh<Real>(own[GateLimit]), least_g = V::zero() - most_g;
        dgate[O] = inside(dnext[H] * tanh_c * saved[O] * (one - saved[O]), saved[O], least, most);
        const V through_h = fma(dnext[H] * saved[O], fnma(tanh_c, tanh_c, one), dnext[C]);
        const V before_limit = fma(saved[F], prev[C], saved[I] * saved[G]);
        const V below = own[Limit] - max(before_limit, V::zero() - before_limit);
        const V dc = where_positive(below, fma(dgate[O], own[PeepO], through_h));
        const V df = dc * prev[C];
        dgate[F] = inside((one - own[Coupled]) * df * saved[F] * (one - saved[F]), saved[F], least, most);
        dgate[I] = inside(fnma(own[Coupled], df, dc * saved[G]) * saved[I] * (one - saved[I]), saved[I], least, most);
        dgate[G] = inside(dc * saved[I] * fnma(saved[G], saved[G], one), saved[G], least_g, most_g);
        dgate[DPeepI] = dgate[I] * prev[C];
        dgate[DPeepF] = dgate[F] * prev[C];
        dgate[DPeepO] = dgate[O] * next[C];
        dprev[C] = fma(dgate[I], own[PeepI], fma(dgate[F], own[PeepF], dc * saved[F]));
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
