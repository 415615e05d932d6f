// The LSTM of Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000):
//   i, f, o = sigmoid(...)   g = tanh(...)   c = f * c' + i * g   h = o * tanh(c)
#pragma once

#include "general.h"

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
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        saved[I] = sigmoid<Real>(x[I] + hidden[I]);
        saved[F] = sigmoid<Real>(x[F] + hidden[F]);
        saved[G] = tanh<Real>(x[G] + hidden[G]);
        saved[O] = sigmoid<Real>(x[O] + hidden[O]);
        restore(saved, prev, own, next);
    }

    static void restore(const V* saved, const V* prev, Own<V> own, V* next) {
        next[C] = cell_state(saved, prev, own);
        next[H] = saved[O] * tanh<Real>(next[C]);
    }

    static V cell_state(const V* saved, const V* prev, Own<V>) { return fma(saved[F], prev[C], saved[I] * saved[G]); }

    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V> own, const V* next, V, const V* dnext, V* dgate,
                         V* dprev) {
        backward_from(dnext[H], saved, prev, own, next, dnext, dgate, nullptr, dprev);
    }

    // d_output: by o * tanh(c). The gradients by learned vectors come apart: with a projection there is a plane
    // between.
    static void backward_from(V d_output, const V* saved, const V* prev, Own<V>, const V* next, const V* dnext,
                              V* dgate, V*, V* dprev) {
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
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
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
    static void backward(const V* saved, const V* prev, Own<V> own, const V* next, V, const V* dnext, V* dgate,
                         V* dprev) {
        if constexpr (phase > 0) return;
        Base::backward_from(dnext[H], saved, prev, own, next, dnext, dgate, nullptr, dprev);
        for (int g = 0; g < Base::kGates; ++g) {
            dgate[DGain + g] = dgate[g] * saved[Normalised + g];
            dgate[DShift + g] = dgate[g];
            dgate[g] = dgate[g] * own[Gain + g];
        }
    }
};

// The LSTM with what others have added to it, each of which may be off:
//   activations that are data: i, f, o = f(...)   g = g(...)   h = o * h(c)
//   peepholes of Gers et al. (2002): i and f look at c', o looks at c, each through a weight of its own
//   coupled gates: f = 1 - i (Greff et al., 2017)
//   a limit to c: c = min(max(f * c' + i * g, -limit), limit)
//   a limit to what goes into the gates' activations (ONNX's clip)
template <class V>
struct LstmGeneral : Lstm<V> {
    using Base = Lstm<V>;
    using Base::C, Base::F, Base::G, Base::H, Base::I, Base::O;
    enum Vector { PeepI, PeepF, PeepO };
    static constexpr int kVectors = 3, kLearned = 3, kActivations = 3;
    static constexpr Phase kBackward[] = {{I, 4, kNextGradients, 0b1111111}};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        saved[I] = looking(own, PeepI, prev[C], x[I] + hidden[I]);
        saved[F] = looking(own, PeepF, prev[C], x[F] + hidden[F]);
        open_gates(own, 0, saved + I, 2);
        if (own.options->coupled) saved[F] = V::broadcast(1) - saved[I];
        saved[G] = x[G] + hidden[G];
        open_gates(own, 1, saved + G, 1);
        next[C] = cell_state(saved, prev, own);
        saved[O] = looking(own, PeepO, next[C], x[O] + hidden[O]);
        open_gates(own, 0, saved + O, 1);
        next[H] = saved[O] * squashed(next[C], own);
    }

    // Without peepholes, not even zeros times an infinite c.
    static V looking(Own<V> own, int peephole, V c, V sum) {
        return own.options->peepholes ? fma(own[peephole], c, sum) : sum;
    }
    static V cell_state(const V* saved, const V* prev, Own<V> own) {
        const V c = Base::cell_state(saved, prev, own);
        return own.options->limits_cell ? limited(c, own.options->cell_limit) : c;
    }
    static V squashed(V c, Own<V> own) {
        activate(own.options->activation[2], &c, 1);
        return c;
    }

    static void restore(const V* saved, const V* prev, Own<V> own, V* next) {
        next[C] = cell_state(saved, prev, own);
        next[H] = saved[O] * squashed(next[C], own);
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V> own, const V* next, V, const V* dnext, V* dgate,
                         V* dprev) {
        backward_from(dnext[H], saved, prev, own, next, dnext, dgate, dgate + Base::kGradients, dprev);
    }

    // As Lstm's.
    static void backward_from(V d_output, const V* saved, const V* prev, Own<V> own, const V* next, const V* dnext,
                              V* dgate, V* dpeephole, V* dprev) {
        const auto& options = *own.options;
        const V squashed_c = squashed(next[C], own);
        dgate[O] = d_output * squashed_c;
        open_gates_backward(own, 0, saved + O, dgate + O, 1);
        V dc = d_output * saved[O];
        differentiate(options.activation[2], &squashed_c, &dc, 1);
        dc = looking(own, PeepO, dgate[O], dc + dnext[C]);
        if (options.limits_cell) {
            const V c = Base::cell_state(saved, prev, own);
            dc = where_positive(V::broadcast(options.cell_limit) - abs(c), dc);
        }
        dgate[I] = dc * (options.coupled ? saved[G] - prev[C] : saved[G]);
        dgate[F] = dc * prev[C];
        dgate[G] = dc * saved[I];
        open_gates_backward(own, 0, saved + I, dgate + I, 2);
        open_gates_backward(own, 1, saved + G, dgate + G, 1);
        if (options.coupled) dgate[F] = V::zero();
        dpeephole[PeepI] = dgate[I] * prev[C];
        dpeephole[PeepF] = dgate[F] * prev[C];
        dpeephole[PeepO] = dgate[O] * next[C];
        dprev[C] = looking(own, PeepI, dgate[I], looking(own, PeepF, dgate[F], dc * saved[F]));
    }
};

// With the projection of Sak et al. (2014):  h = W_hr (o * tanh(c))
// W_hr is gate R of W_hh, without input and bias. It makes P numbers, which are all of h that W_hh meets; in arrays of
// H units the others are zeros.
template <class V, template <class> class Unprojected>
struct Projected : Unprojected<V> {
    using Base = Unprojected<V>;
    using Base::C, Base::F, Base::G, Base::H, Base::I, Base::O;
    enum Projection { R = Base::kGates };
    enum Saved { Output = Base::kSaved, SavedH };
    static constexpr int kSaved = Base::kSaved + 2, kGradients = Base::kGradients + 1;
    static constexpr int kPhases = 2;
    static constexpr unsigned kLearnedPlanes = ((1u << Base::kLearned) - 1) << kGradients;
    static constexpr Phase kForward[] = {{I, 4, kPreviousH, (2u << Output) - 1}, {R, 1, Output, 1u << SavedH}};
    static constexpr Phase kBackward[] = {{I, 4, kNextGradients, 1u << R},
                                          {R, 1, kSameGradients, 0b1111 | kLearnedPlanes}};
    static constexpr int kHiddenGradient[] = {I, F, G, O, R};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        if constexpr (phase == 0) {
            Base::template forward<0>(x, hidden, prev, own, saved, next);
            saved[Output] = next[H];
        } else {
            saved[SavedH] = hidden[R];
            restore(saved, prev, own, next);
        }
    }

    static void restore(const V* saved, const V* prev, Own<V> own, V* next) {
        next[C] = Base::cell_state(saved, prev, own);
        next[H] = saved[SavedH];
    }

    // Phase 0 knows dL/dh; phase 1 gets dL/d(o * tanh(c)) as `product`.
    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V> own, const V* next, V product, const V* dnext, V* dgate,
                         V* dprev) {
        if constexpr (phase == 0)
            dgate[R] = dnext[H];
        else
            Base::backward_from(product, saved, prev, own, next, dnext, dgate, dgate + kGradients, dprev);
    }
};

template <class V>
struct LstmProjected : Projected<V, Lstm> {};
template <class V>
struct LstmGeneralProjected : Projected<V, LstmGeneral> {};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
