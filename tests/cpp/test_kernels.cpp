// Every kernel table that this machine can run against plain loops in double precision, without Python: for
// cross-compiled builds, and for sanitizers that do not get along with an interpreter.
//
// Shapes as in problem.h: T steps, B batch, I input size, H hidden size, G gates.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "buffer.h"
#include "cpu.h"
#include "dispatch.h"
#include "float_mode.h"
#include "packed.h"
#include "plan.h"
#include "run.h"
#include "thread_count.h"
#include "thread_pool.h"

#ifdef FASTRNN_EVEX
namespace fastrnn::avx2 {
extern const ProductKernels<float> int8_evex_float32;
}
#endif

namespace {

using namespace fastrnn;
using Array = std::vector<double>;

int failures = 0;

void check(bool good, const std::string& what) {
    if (good) return;
    ++failures;
    std::printf("FAILED: %s\n", what.c_str());
}

// --- the reference

struct Problem {
    Cell cell;
    Sizes size;
    std::vector<std::int32_t> slot;  // (T, B), with tokens
    std::vector<std::int64_t> id;
    Array x, w_ih, w_hh, b_ih, b_hh, vectors, state_0[kMaxStates];  // w_hh is zeros where a cell has none
    Array dy, dstate_n[kMaxStates];
    CellOptions<double> options;  // those that a cell has by itself, if it has none as data

    const CellInfo& info() const { return kCells[static_cast<int>(cell)]; }
    bool is_general() const { return info().activations > 0; }
    bool projects() const { return info().recurrent > info().gates; }
    bool resets_before() const { return cell == Cell::gru_reset_before || cell == Cell::gru_general_before; }
    bool has_step() const { return info().recurrent == info().gates && info().vectors == 0 && !is_general(); }
};

struct Solution {
    Array y, state_n[kMaxStates];
    Array dx, dw_ih, dw_hh, db_ih, db_hh, dvectors, dstate_0[kMaxStates];
};

double sigmoid(double a) { return 1 / (1 + std::exp(-a)); }

double value(const Activation<double>& f, double a) {
    switch (f.kind) {
        case ActivationKind::sigmoid: return sigmoid(a);
        case ActivationKind::tanh: return std::tanh(a);
        case ActivationKind::relu: return std::fmax(0, a);
        case ActivationKind::hard_sigmoid: return std::fmax(0, std::fmin(1, f.alpha * a + f.beta));
        case ActivationKind::affine: return f.alpha * a + f.beta;
        case ActivationKind::leaky_relu: return a > 0 ? a : f.alpha * a;
        case ActivationKind::thresholded_relu: return a > f.alpha ? a : 0;
        case ActivationKind::scaled_tanh: return f.alpha * std::tanh(f.beta * a);
        case ActivationKind::elu: return a > 0 ? a : f.alpha * std::expm1(a);
        case ActivationKind::softsign: return a / (1 + std::fabs(a));
        case ActivationKind::softplus: return std::log1p(std::exp(a));
        case ActivationKind::identity: return a;
    }
    throw std::logic_error("no activation");
}

double slope(const Activation<double>& f, double a) {
    const double y = value(f, a);
    switch (f.kind) {
        case ActivationKind::sigmoid: return y * (1 - y);
        case ActivationKind::tanh: return 1 - y * y;
        case ActivationKind::relu: return a > 0;
        case ActivationKind::hard_sigmoid: return y > 0 && y < 1 ? f.alpha : 0;
        case ActivationKind::affine: return f.alpha;
        case ActivationKind::leaky_relu: return a > 0 ? 1 : f.alpha;
        case ActivationKind::thresholded_relu: return a > f.alpha;
        case ActivationKind::scaled_tanh: return f.alpha * f.beta * (1 - std::pow(std::tanh(f.beta * a), 2));
        case ActivationKind::elu: return a > 0 ? 1 : f.alpha * std::exp(a);
        case ActivationKind::softsign: return std::pow(1 + std::fabs(a), -2);
        case ActivationKind::softplus: return sigmoid(a);
        case ActivationKind::identity: return 1;
    }
    throw std::logic_error("no activation");
}

// One row of one step: the equations, by scalars, and their derivatives.
// Makes of a row of weights, or of what they are multiplied with, what a format keeps of it.
void round_row(WeightFormat format, double* row, Index n, bool of_weights) {
    const auto bfloat16 = [](float number) {
        std::uint32_t bits;
        std::memcpy(&bits, &number, sizeof bits);
        if (!std::isnan(number)) bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
        std::memcpy(&number, &bits, sizeof bits);
        return number;
    };
    switch (format) {
        case WeightFormat::plain: return;
        case WeightFormat::bfloat16:
            for (Index k = 0; k < n; ++k) row[k] = bfloat16(static_cast<float>(row[k]));
            return;
        case WeightFormat::int8: {
            float most = 0;
            for (Index k = 0; k < n; ++k) most = std::fmax(most, std::fabs(static_cast<float>(row[k])));
            if (most == 0) return;
            const float scale = most / 127;
            for (Index k = 0; k < n; ++k) {
                const float number = static_cast<float>(row[k]);
                row[k] = std::nearbyint(of_weights ? number / scale : number * (127 / most)) * double{scale};
            }
            return;
        }
    }
    throw std::logic_error("the reference does not know this format");
}

class Reference {
public:
    explicit Reference(const Problem& problem, WeightFormat format = WeightFormat::plain)
        : p_(problem), format_(format), G_(p_.info().gates), B_(p_.size.B), I_(p_.size.I), H_(p_.size.H) {}

    Solution solve() {
        const Index T = p_.size.T;
        Solution s;
        for (int k = 0; k < p_.info().states; ++k) s.state_n[k] = p_.state_0[k];
        std::vector<std::vector<Array>> before;  // states before each step
        for (Index t = 0; t < T; ++t) {
            before.push_back({s.state_n[kH], s.state_n[kC]});
            for (Index b = 0; b < B_; ++b) {
                const Row row = forward(t, b, before.back());
                for (Index u = 0; u < H_; ++u)
                    for (int k = 0; k < p_.info().states; ++k) at(s.state_n[k], b, u) = row.next[k][index(u)];
            }
            s.y.insert(s.y.end(), s.state_n[kH].begin(), s.state_n[kH].end());
        }
        s.dx.assign(index(T * B_ * I_), 0);
        s.dw_ih.assign(p_.w_ih.size(), 0);
        s.dw_hh.assign(p_.w_hh.size(), 0);
        s.db_ih.assign(p_.b_ih.size(), 0);
        s.db_hh.assign(p_.b_hh.size(), 0);
        s.dvectors.assign(index(p_.info().learned * H_), 0);
        Array dnext[kMaxStates] = {p_.dstate_n[kH], p_.dstate_n[kC]};
        for (Index t = T - 1; t >= 0; --t)
            for (Index b = 0; b < B_; ++b) backward(t, b, before[index(t)], dnext, s);
        for (int k = 0; k < p_.info().states; ++k) s.dstate_0[k] = dnext[k];
        return s;
    }

private:
    struct Row {
        Array input, hidden, gate;  // (G, H): W_ih x + b_ih; W_hh h' + b_hh; what the activations make of them
        Array sum;                  // (G, H): what goes into the activations, before its limit
        Array next[kMaxStates];     // (H,)
        Array output;               // (H,): o * tanh(c), of which a projection makes h
        Array normalised, scale;    // (4, H), (4,): sums as layer normalisation makes them, and its factors
    };

    static std::size_t index(Index i) { return static_cast<std::size_t>(i); }
    double& at(Array& states, Index b, Index u) const { return states[index(b * H_ + u)]; }
    double x(Index t, Index b, Index i) const {
        if (p_.size.D) return p_.id[index(p_.slot[index(t * B_ + b)])] == i ? 1 : 0;
        return p_.x[index((t * B_ + b) * I_ + i)];
    }

    Array operand(Array row) const {
        round_row(format_, row.data(), static_cast<Index>(row.size()), false);
        return row;
    }

    double w_hr(Index row, Index k) const { return p_.w_hh[index((G_ * H_ + row) * H_ + k)]; }

    // Parameter v of unit u for itself.
    double own(int v, Index u) const {
        const bool looks = G_ == 1 || p_.options.peepholes;
        return looks && v < p_.info().vectors ? p_.vectors[index(v * H_ + u)] : 0;
    }

    static double clipped(double a, double limit) { return std::fmin(std::fmax(a, -limit), limit); }

    // Activation f of a gate's sum, and its slope there.
    double activated(int f, double a) const {
        return value(p_.options.activation[f], p_.options.limits_gates ? clipped(a, p_.options.gate_limit) : a);
    }
    double activated_slope(int f, double a) const {
        if (p_.options.limits_gates && std::fabs(a) >= p_.options.gate_limit) return 0;
        return slope(p_.options.activation[f], a);
    }

    bool is_normalised() const { return p_.cell == Cell::lstm_normalised || p_.cell == Cell::gru_normalised; }

    // Sums k = 0 .. 3 of a row, normalised: i, f, g, o; or r, z and both of n.
    void normalise(Row& r) const {
        for (int k = 0; k < 4; ++k) {
            const int g = k < G_ ? k : G_ - 1;
            const bool is_lstm = G_ == 4, input = is_lstm || k < 3, hidden = is_lstm || k != 2;
            Array sums(index(H_));
            double mean = 0, variance = 0;
            for (Index u = 0; u < H_; ++u) {
                sums[index(u)] = (input ? r.input[index(g * H_ + u)] : 0) + (hidden ? r.hidden[index(g * H_ + u)] : 0);
                mean += sums[index(u)] / static_cast<double>(H_);
            }
            for (const double s : sums) variance += (s - mean) * (s - mean) / static_cast<double>(H_);
            r.scale.push_back(1 / std::sqrt(variance + 1e-5));
            for (const double s : sums) r.normalised.push_back((s - mean) * r.scale.back());
        }
    }

    // What goes into an activation: sum k of unit u with its gain and shift.
    double affine(const Row& r, int k, Index u) const {
        return p_.vectors[index(k * H_ + u)] * r.normalised[index(k * H_ + u)] + p_.vectors[index((4 + k) * H_ + u)];
    }

    // The gradients by the four sums, of those by what affine() made of them; adds to those of gains and shifts.
    Array sum_gradients(const Row& r, const Array& by_affine, Solution& s) const {
        Array by_sum(index(4 * H_));
        for (int k = 0; k < 4; ++k) {
            double mean = 0, along = 0;
            for (Index u = 0; u < H_; ++u) {
                const std::size_t at = index(k * H_ + u);
                s.dvectors[at] += by_affine[at] * r.normalised[at];
                s.dvectors[index((4 + k) * H_ + u)] += by_affine[at];
                by_sum[at] = by_affine[at] * p_.vectors[at];
                mean += by_sum[at] / static_cast<double>(H_);
                along += by_sum[at] * r.normalised[at] / static_cast<double>(H_);
            }
            for (Index u = 0; u < H_; ++u) {
                const std::size_t at = index(k * H_ + u);
                by_sum[at] = r.scale[index(k)] * (by_sum[at] - mean - r.normalised[at] * along);
            }
        }
        return by_sum;
    }

    Row forward(Index t, Index b, const std::vector<Array>& before) const {
        Row r;
        r.input = p_.b_ih;
        r.hidden = p_.b_hh;
        const double* const h = before[kH].data() + b * H_;
        Array x_row;
        for (Index i = 0; i < I_; ++i) x_row.push_back(x(t, b, i));
        if (!p_.size.D) x_row = operand(x_row);
        const Array h_row = operand(Array(h, h + H_));
        for (Index row = 0; row < G_ * H_; ++row) {
            for (Index i = 0; i < I_; ++i) r.input[index(row)] += p_.w_ih[index(row * I_ + i)] * x_row[index(i)];
            for (Index k = 0; k < H_; ++k) r.hidden[index(row)] += p_.w_hh[index(row * H_ + k)] * h_row[index(k)];
        }
        r.gate.assign(index(G_ * H_), 0);
        r.sum.assign(index(G_ * H_), 0);
        for (Array& next : r.next) next.assign(index(H_), 0);
        const auto sum = [&](int g, Index u) { return r.input[index(g * H_ + u)] + r.hidden[index(g * H_ + u)]; };
        const auto gate = [&](int g, Index u) -> double& { return r.gate[index(g * H_ + u)]; };
        const auto open = [&](int g, Index u, int f, double a) {
            r.sum[index(g * H_ + u)] = a;
            return gate(g, u) = activated(f, a);
        };
        if (is_normalised()) normalise(r);
        for (Index u = 0; u < H_; ++u) {
            double& next = r.next[kH][index(u)];
            switch (p_.cell) {
                case Cell::lstm_normalised: {
                    for (int g = 0; g < 4; ++g)
                        gate(g, u) = g == 2 ? std::tanh(affine(r, g, u)) : sigmoid(affine(r, g, u));
                    const double c = gate(1, u) * before[kC][index(b * H_ + u)] + gate(0, u) * gate(2, u);
                    r.next[kC][index(u)] = c;
                    next = gate(3, u) * std::tanh(c);
                    break;
                }
                case Cell::gru_normalised:
                    gate(0, u) = sigmoid(affine(r, 0, u));
                    gate(1, u) = sigmoid(affine(r, 1, u));
                    gate(2, u) = std::tanh(affine(r, 2, u) + gate(0, u) * affine(r, 3, u));
                    next = (1 - gate(1, u)) * gate(2, u) + gate(1, u) * h[u];
                    break;
                case Cell::rnn_tanh:
                case Cell::rnn_relu:
                case Cell::rnn_general:
                case Cell::indrnn: next = open(0, u, 0, sum(0, u) + own(0, u) * h[u]); break;
                case Cell::lstm:
                case Cell::lstm_projected:
                case Cell::lstm_general:
                case Cell::lstm_general_projected: {
                    const double c_prev = before[kC][index(b * H_ + u)],
                                 i = open(0, u, 0, sum(0, u) + own(0, u) * c_prev);
                    open(1, u, 0, sum(1, u) + own(1, u) * c_prev);
                    if (p_.options.coupled) gate(1, u) = 1 - i;
                    open(2, u, 1, sum(2, u));
                    double c = gate(1, u) * c_prev + i * gate(2, u);
                    if (p_.options.limits_cell) c = clipped(c, p_.options.cell_limit);
                    r.next[kC][index(u)] = c;
                    next = open(3, u, 0, sum(3, u) + own(2, u) * c) * value(p_.options.activation[2], c);
                    break;
                }
                case Cell::mingru:
                    gate(0, u) = sigmoid(sum(0, u));
                    gate(1, u) = sum(1, u);
                    next = (1 - gate(0, u)) * h[u] + gate(0, u) * gate(1, u);
                    break;
                case Cell::gru_reset_after:
                case Cell::gru_reset_before:
                case Cell::gru_general_after:
                case Cell::gru_general_before:
                    open(0, u, 0, sum(0, u));
                    open(1, u, 0, sum(1, u));
                    break;
            }
        }
        if (p_.projects()) {
            r.output = r.next[kH];
            const Array output = operand(r.output);
            for (Index u = 0; u < H_; ++u) {
                r.next[kH][index(u)] = 0;
                for (Index k = 0; k < H_; ++k) r.next[kH][index(u)] += w_hr(u, k) * output[index(k)];
            }
        }
        if (G_ != 3 || is_normalised()) return r;
        Array left(index(H_));
        for (Index k = 0; k < H_; ++k) left[index(k)] = gate(0, k) * h[k];
        left = operand(left);
        for (Index u = 0; u < H_; ++u) {
            double hidden = gate(0, u) * r.hidden[index(2 * H_ + u)];
            if (p_.resets_before()) {
                hidden = p_.b_hh[index(2 * H_ + u)];
                for (Index k = 0; k < H_; ++k) hidden += p_.w_hh[index((2 * H_ + u) * H_ + k)] * left[index(k)];
            }
            open(2, u, 1, r.input[index(2 * H_ + u)] + hidden);
            r.next[kH][index(u)] = (1 - gate(1, u)) * gate(2, u) + gate(1, u) * h[u];
        }
        return r;
    }

    // Adds to the solution; dnext becomes the gradient of the states before.
    void backward(Index t, Index b, const std::vector<Array>& before, Array* dnext, Solution& s) {
        const Row r = forward(t, b, before);
        const auto gate = [&](int g, Index u) { return r.gate[index(g * H_ + u)]; };
        // The slope of activation f at the sum of a gate.
        const auto opening = [&](int g, Index u, int f) { return activated_slope(f, r.sum[index(g * H_ + u)]); };
        const double* const h = before[kH].data() + b * H_;
        Array dinput(index(G_ * H_)), dhidden(index(G_ * H_)), dh(index(H_)), dreset(index(H_));
        const auto set = [&](int g, Index u, double d) { dinput[index(g * H_ + u)] = dhidden[index(g * H_ + u)] = d; };
        Array by_h(index(H_)), by_output(index(H_));
        for (Index u = 0; u < H_; ++u) by_h[index(u)] = at(dnext[kH], b, u) + p_.dy[index((t * B_ + b) * H_ + u)];
        for (Index u = 0; p_.projects() && u < H_; ++u) {
            for (Index k = 0; k < H_; ++k) {
                by_output[index(k)] += by_h[index(u)] * w_hr(u, k);
                s.dw_hh[index((G_ * H_ + u) * H_ + k)] += by_h[index(u)] * r.output[index(k)];
            }
        }
        for (Index u = 0; u < H_; ++u) {
            const double d = p_.projects() ? by_output[index(u)] : by_h[index(u)];
            if (G_ == 1) {
                const double da = d * opening(0, u, 0);
                set(0, u, da);
                if (p_.info().vectors > 0) {
                    s.dvectors[index(u)] += da * h[u];
                    dh[index(u)] = da * own(0, u);
                }
            } else if (p_.cell == Cell::mingru) {
                const double z = gate(0, u);
                set(0, u, d * (gate(1, u) - h[u]) * z * (1 - z));
                set(1, u, d * z);
                dh[index(u)] = d * (1 - z);
            } else if (p_.cell == Cell::lstm_normalised) {
                const double i = gate(0, u), f = gate(1, u), g = gate(2, u), o = gate(3, u);
                const double tanh_c = std::tanh(r.next[kC][index(u)]);
                const double dc = at(dnext[kC], b, u) + d * o * (1 - tanh_c * tanh_c);
                set(0, u, dc * g * i * (1 - i));
                set(1, u, dc * before[kC][index(b * H_ + u)] * f * (1 - f));
                set(2, u, dc * i * (1 - g * g));
                set(3, u, d * tanh_c * o * (1 - o));
                at(dnext[kC], b, u) = dc * f;
            } else if (G_ == 4) {
                const CellOptions<double>& options = p_.options;
                const double i = gate(0, u), f = gate(1, u), g = gate(2, u), o = gate(3, u);
                const double c_prev = before[kC][index(b * H_ + u)], c = r.next[kC][index(u)];
                const double d_o = d * value(options.activation[2], c) * opening(3, u, 0);
                double dc = at(dnext[kC], b, u) + d * o * slope(options.activation[2], c) + d_o * own(2, u);
                if (options.limits_cell && std::fabs(f * c_prev + i * g) >= options.cell_limit) dc = 0;
                const double di = dc * (options.coupled ? g - c_prev : g) * opening(0, u, 0);
                const double df = options.coupled ? 0 : dc * c_prev * opening(1, u, 0);
                set(0, u, di);
                set(1, u, df);
                set(2, u, dc * i * opening(2, u, 1));
                set(3, u, d_o);
                if (p_.info().vectors > 0) {
                    s.dvectors[index(u)] += di * c_prev;
                    s.dvectors[index(H_ + u)] += df * c_prev;
                    s.dvectors[index(2 * H_ + u)] += d_o * c;
                }
                at(dnext[kC], b, u) = dc * f + di * own(0, u) + df * own(1, u);
            } else if (G_ == 3) {
                const double z = gate(1, u), n = gate(2, u);
                set(2, u, d * (1 - z) * (is_normalised() ? 1 - n * n : opening(2, u, 1)));
                set(1, u, d * (h[u] - n) * (is_normalised() ? z * (1 - z) : opening(1, u, 0)));
                dh[index(u)] = d * z;
            } else {
                throw std::logic_error(std::string("the reference has no gradient of ") + p_.info().name);
            }
        }
        if (is_normalised()) {
            Array by_affine(index(4 * H_));
            for (int k = 0; k < 4; ++k)
                for (Index u = 0; u < H_; ++u) {
                    const double dn = dinput[index((G_ == 3 ? 2 : 0) * H_ + u)], r_gate = gate(0, u);
                    const std::size_t at = index(k * H_ + u);
                    if (G_ == 4 || k == 1) by_affine[at] = dinput[at];
                    if (G_ == 3 && k == 0) by_affine[at] = dn * affine(r, 3, u) * r_gate * (1 - r_gate);
                    if (G_ == 3 && k >= 2) by_affine[at] = k == 2 ? dn : dn * r_gate;
                }
            const Array by_sum = sum_gradients(r, by_affine, s);
            for (Index row = 0; row < G_ * H_; ++row) {
                dinput[index(row)] = by_sum[index(row)];
                dhidden[index(row)] = by_sum[index(G_ == 3 && row >= 2 * H_ ? row + H_ : row)];
            }
        }
        const auto w_hh = [&](Index row, Index k) { return p_.w_hh[index(row * H_ + k)]; };
        if (G_ == 3 && !is_normalised()) {
            for (Index u = 0; u < H_; ++u) {
                const double dn = dinput[index(2 * H_ + u)];
                if (!p_.resets_before()) {
                    dreset[index(u)] = dn * r.hidden[index(2 * H_ + u)];
                    dhidden[index(2 * H_ + u)] = dn * gate(0, u);
                } else {
                    for (Index k = 0; k < H_; ++k) dreset[index(k)] += dn * w_hh(2 * H_ + u, k) * h[k];
                }
            }
            for (Index u = 0; u < H_; ++u) set(0, u, dreset[index(u)] * opening(0, u, 0));
        }
        for (Index row = 0; row < G_ * H_; ++row) {
            const bool reset = p_.resets_before() && row >= 2 * H_;  // its operand is r * h'
            s.db_ih[index(row)] += dinput[index(row)];
            s.db_hh[index(row)] += dhidden[index(row)];
            for (Index i = 0; i < I_; ++i) {
                s.dw_ih[index(row * I_ + i)] += dinput[index(row)] * x(t, b, i);
                s.dx[index((t * B_ + b) * I_ + i)] += dinput[index(row)] * p_.w_ih[index(row * I_ + i)];
            }
            for (Index k = 0; k < H_; ++k) {
                const double scale = reset ? gate(0, k) : 1;
                s.dw_hh[index(row * H_ + k)] += dhidden[index(row)] * h[k] * scale;
                dh[index(k)] += dhidden[index(row)] * w_hh(row, k) * scale;
            }
        }
        for (Index u = 0; u < H_; ++u) at(dnext[kH], b, u) = dh[index(u)];
    }

    const Problem& p_;
    const WeightFormat format_;
    const int G_;
    const Index B_, I_, H_;
};

// --- the kernels

// n numbers that a float holds.
Array draw(std::mt19937& random, Index n, double scale) {
    std::uniform_real_distribution<float> uniform(static_cast<float>(-scale), static_cast<float>(scale));
    Array a(static_cast<std::size_t>(n));
    for (double& value : a) value = uniform(random);
    return a;
}

// Of general cells another activation in each place with each number of units; of others those that they have.
CellOptions<double> draw_options(const Problem& p) {
    constexpr Activation<double> all[] = {{ActivationKind::hard_sigmoid, 0.2, 0.5},
                                          {ActivationKind::softsign, 0, 0},
                                          {ActivationKind::elu, 0.7, 0},
                                          {ActivationKind::scaled_tanh, 0.8, 0.9},
                                          {ActivationKind::softplus, 0, 0},
                                          {ActivationKind::leaky_relu, 0.1, 0},
                                          {ActivationKind::thresholded_relu, 0.2, 0},
                                          {ActivationKind::affine, 0.5, 0.1},
                                          {ActivationKind::relu, 0, 0},
                                          {ActivationKind::identity, 0, 0},
                                          {ActivationKind::sigmoid, 0, 0},
                                          {ActivationKind::tanh, 0, 0}};
    constexpr std::size_t count = sizeof all / sizeof all[0];
    const Activation<double> plain_sigmoid = all[count - 2], plain_tanh = all[count - 1];
    const bool is_rnn = p.info().gates == 1;
    CellOptions<double> options{};
    options.activation[0] = is_rnn ? plain_tanh : plain_sigmoid;
    options.activation[1] = options.activation[2] = plain_tanh;
    if (p.cell == Cell::rnn_relu) options.activation[0].kind = ActivationKind::relu;
    if (!p.is_general()) return options;
    const std::size_t which = static_cast<std::size_t>(p.size.H + p.size.I);
    // c and h stay small: gates that may grow come with a limit.
    for (std::size_t f = 0; f < kMostActivations; ++f) options.activation[f] = all[(which + 5 * f) % count];
    options.limits_gates = true, options.gate_limit = 1.1;
    options.limits_cell = which % 2 == 0, options.cell_limit = 0.8;
    options.coupled = which % 3 == 0, options.peepholes = which % 4 != 0;
    return options;
}

Problem make_problem(Cell cell, Index T, Index B, Index I, Index H, bool tokens) {
    Problem p;
    p.cell = cell;
    p.size = {T, B, I, H, 0};
    std::mt19937 random(static_cast<unsigned>(((T * 31 + B) * 31 + I) * 31 + H));
    const auto draw = [&](Index n, double scale) { return ::draw(random, n, scale); };
    const Index rows = p.info().gates * H;
    p.w_ih = draw(rows * I, 1.5 / std::sqrt(static_cast<double>(I)));
    const int blocks = p.info().recurrent ? p.info().recurrent : p.info().gates;
    p.w_hh = draw(blocks * H * H, p.info().recurrent ? 1 / std::sqrt(static_cast<double>(H)) : 0);
    p.vectors = draw(p.info().vectors * H, 0.3);
    p.options = draw_options(p);
    p.b_ih = draw(rows, 1);
    p.b_hh = draw(rows, 1);
    for (int k = 0; k < p.info().states; ++k) {
        p.state_0[k] = draw(B * H, 1);
        p.dstate_n[k] = draw(B * H, 1);
    }
    p.dy = draw(T * B * H, 1);
    if (!tokens) {
        p.x = draw(T * B * I, 1);
        return p;
    }
    p.size.D = I < T * B ? I : T * B;
    for (Index d = 0; d < p.size.D; ++d) p.id.push_back(I - 1 - d);
    for (Index n = 0; n < T * B; ++n) p.slot.push_back(static_cast<std::int32_t>(n % p.size.D));
    return p;
}

template <class Real>
using Reals = std::vector<Real>;

template <class Real>
Reals<Real> convert(const Array& a) {
    return Reals<Real>(a.begin(), a.end());
}

template <class Real>
constexpr double kTolerance = sizeof(Real) == sizeof(float) ? 3e-5 : 1e-12;

template <class Real>
void compare(const Reals<Real>& got, const Array& expected, const std::string& what,
             double tolerance = kTolerance<Real>) {
    double scale = 1, error = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double e = std::fabs(static_cast<double>(got[i]) - expected[i]);
        scale = std::fmax(scale, std::fabs(expected[i]));
        if (!(e <= error)) error = e;  // NaN too
    }
    check(got.size() == expected.size() && error <= tolerance * scale,
          what + ": off by " + std::to_string(error / scale));
}

template <class Real>
CellOptions<Real> convert_options(const KernelTable& table, const CellOptions<double>& from) {
    CellOptions<Real> to{};
    to.limits_gates = from.limits_gates, to.limits_cell = from.limits_cell, to.coupled = from.coupled;
    to.peepholes = from.peepholes;
    to.gate_limit = static_cast<Real>(from.gate_limit), to.cell_limit = static_cast<Real>(from.cell_limit);
    for (int f = 0; f < kMostActivations; ++f) {
        const Activation<double>& a = from.activation[f];
        to.activation[f] = {a.kind, static_cast<Real>(a.alpha), static_cast<Real>(a.beta)};
    }
    for (int f = 0; f < 2; ++f) {
        const Real limits[] = {-to.gate_limit, to.gate_limit};
        Real ends[2], slopes[2];
        kernels_of<Real>(table).math.activation(to.activation[f], limits, ends, slopes, 2);
        to.gate_least[f] = std::min(ends[0], ends[1]), to.gate_most[f] = std::max(ends[0], ends[1]);
    }
    return to;
}

// A problem's arrays as a call reads them.
template <class Real>
struct Inputs {
    Reals<Real> x, w_ih, w_hh, b_ih, b_hh, vectors, state_0[kMaxStates];
    CellOptions<Real> options;
    ForwardArgs<Real> forward{};  // but for what it writes to

    Inputs(const KernelTable& table, const Problem& p)
        : x(convert<Real>(p.x)),
          w_ih(convert<Real>(p.w_ih)),
          w_hh(convert<Real>(p.w_hh)),
          b_ih(convert<Real>(p.b_ih)),
          b_hh(convert<Real>(p.b_hh)),
          vectors(convert<Real>(p.vectors)),
          options(convert_options<Real>(table, p.options)) {
        const bool tokens = p.size.D > 0;
        forward.size = p.size;
        forward.x = tokens ? nullptr : x.data();
        if (tokens) forward.tokens = {p.slot.data(), p.id.data()};
        forward.w_ih = w_ih.data();
        forward.w_hh = p.info().recurrent ? w_hh.data() : nullptr;
        forward.b_ih = b_ih.data();
        forward.b_hh = b_hh.data();
        forward.vectors = vectors.data();
        if (p.is_general()) forward.options = &options;
        for (int k = 0; k < p.info().states; ++k) {
            state_0[k] = convert<Real>(p.state_0[k]);
            forward.state_0[k] = state_0[k].data();
        }
    }
    Inputs(const Inputs&) = delete;
    Inputs& operator=(const Inputs&) = delete;
};

// What the kernels make of a problem, in arrays of exactly the right sizes, so that sanitizers see what lies outside.
template <class Real>
struct Run {
    Reals<Real> y, state_n[kMaxStates], dx, dw_ih, dw_hh, db_ih, db_hh, dvectors, dstate_0[kMaxStates],
        step[kMaxStates];

    // `kept`: whose weights inference uses.
    Run(const KernelTable& table, const Problem& p, KeptWeights* kept = nullptr) {
        const auto [T, B, I, H, D, first_row, P] = p.size;
        const std::size_t rows = p.b_ih.size(), states = p.state_0[kH].size();
        const Inputs<Real> inputs(table, p);
        const Reals<Real> dy = convert<Real>(p.dy);
        Reals<Real> dstate_n[kMaxStates];
        const Buffer tape(static_cast<std::size_t>(tape_size<Real>(table, p.cell, p.size, WeightFormat::plain)) *
                          sizeof(Real));

        ForwardArgs<Real> forward = inputs.forward;
        BackwardArgs<Real> backward{};
        StepArgs<Real> single{};
        y.resize(p.dy.size());
        for (int k = 0; k < p.info().states; ++k) {
            dstate_n[k] = convert<Real>(p.dstate_n[k]);
            for (Reals<Real>* out : {&state_n[k], &dstate_0[k], &step[k]}) out->resize(states);
            single.state[k] = forward.state_0[k];
            forward.state_n[k] = state_n[k].data();
            backward.dstate_n[k] = dstate_n[k].data();
            backward.dstate_0[k] = dstate_0[k].data();
            single.next_state[k] = step[k].data();
        }
        forward.y = y.data();
        if (kept)
            kept->run_forward(table, p.cell, forward, nullptr);
        else
            run_forward(table, p.cell, forward, nullptr);
        const Reals<Real> inference = y;
        forward.tape = static_cast<Real*>(tape.data());
        run_forward(table, p.cell, forward, nullptr);
        check(inference == y, "training changes y");

        dx.resize(p.x.size());
        dw_ih.resize(rows * static_cast<std::size_t>(I));
        if (p.info().recurrent) dw_hh.resize(p.w_hh.size());
        dvectors.resize(static_cast<std::size_t>(p.info().learned * H));
        db_ih.resize(rows);
        db_hh.resize(rows);
        backward.size = p.size;
        backward.tape = forward.tape;
        backward.tokens = forward.tokens;
        backward.options = forward.options;
        backward.dy = dy.data();
        backward.dx = D ? nullptr : dx.data();
        backward.dw_ih = dw_ih.data();
        backward.dw_hh = p.info().recurrent ? dw_hh.data() : nullptr;
        backward.dvectors = dvectors.data();
        backward.db_ih = db_ih.data();
        backward.db_hh = db_hh.data();
        run_backward(table, p.cell, backward, nullptr);
        sum_twice(table, p, backward);

        std::vector<std::int64_t> first;
        for (Index b = 0; D && b < B; ++b)
            first.push_back(p.id[static_cast<std::size_t>(p.slot[static_cast<std::size_t>(b)])]);
        single.size = {1, B, I, H, D ? B : 0};
        single.x = forward.x;
        single.token = D ? first.data() : nullptr;
        single.w_ih = forward.w_ih;
        single.w_hh = forward.w_hh;
        single.b_ih = forward.b_ih;
        single.b_hh = forward.b_hh;
        if (p.has_step()) run_step(table, p.cell, single, nullptr);
    }

    std::vector<Reals<Real>> everything() const {
        return {dvectors, y,     state_n[kH],  state_n[kC],  dx,       dw_ih,   dw_hh,
                db_ih,    db_hh, dstate_0[kH], dstate_0[kC], step[kH], step[kC]};
    }

private:
    // The same backward call twice more, each added to what the sums and their rests hold: that is twice the sums.
    void sum_twice(const KernelTable& table, const Problem& p, BackwardArgs<Real> args) const {
        Reals<Real> sums[] = {dw_ih, dw_hh, db_ih, db_hh, dvectors};
        Reals<Real> rest(2 * db_ih.size() + dvectors.size() + (p.size.D ? dw_ih.size() : 0));
        const std::vector<Reals<Real>> once(std::begin(sums), std::end(sums));
        args.dw_ih = sums[0].data();
        args.dw_hh = p.info().recurrent ? sums[1].data() : nullptr;
        args.db_ih = sums[2].data();
        args.db_hh = sums[3].data();
        args.dvectors = sums[4].data();
        args.rest = rest.data();
        for (const bool adds : {false, true}) {
            args.adds = adds;
            run_backward(table, p.cell, args, nullptr);
        }
        for (std::size_t k = 0; k < once.size(); ++k) {
            Array twice;
            for (const Real sum : once[k]) twice.push_back(2 * static_cast<double>(sum));
            compare(sums[k], twice, std::string(table.isa) + " " + p.info().name + " sums of two calls");
        }
    }
};

template <class Real>
void compare_with_reference(const KernelTable& table, const Problem& p, const Solution& expected, const Array& h_step) {
    const Run<Real> got(table, p);
    const auto [T, B, I, H, D, first_row, P] = p.size;
    const auto n = [](Index i) { return std::to_string(i); };
    const std::string where = std::string(table.isa) + " " + p.info().name + (sizeof(Real) == 4 ? " f32" : " f64") +
                              " T=" + n(T) + " B=" + n(B) + " I=" + n(I) + " H=" + n(H) + (D ? " tokens " : " ");
    compare(got.y, expected.y, where + "y");
    if (!D) compare(got.dx, expected.dx, where + "dx");
    compare(got.dw_ih, expected.dw_ih, where + "dw_ih");
    if (p.info().recurrent) compare(got.dw_hh, expected.dw_hh, where + "dw_hh");
    compare(got.dvectors, expected.dvectors, where + "dvectors");
    compare(got.db_ih, expected.db_ih, where + "db_ih");
    compare(got.db_hh, expected.db_hh, where + "db_hh");
    for (int k = 0; k < p.info().states; ++k) {
        compare(got.state_n[k], expected.state_n[k], where + "state_n " + n(k));
        compare(got.dstate_0[k], expected.dstate_0[k], where + "dstate_0 " + n(k));
    }
    if (p.has_step()) compare(got.step[kH], h_step, where + "step");
}

void test_cells() {
    for (int cell = 0; cell < kCellCount; ++cell)
        for (const bool tokens : {false, true})
            for (const Index T : {1, 3})
                for (const Index B : {1, 2, 7})
                    for (const Index I : {1, 3, 8, 17, 33})
                        for (const Index H : {1, 3, 8, 17, 33}) {
                            const Problem p = make_problem(static_cast<Cell>(cell), T, B, I, H, tokens);
                            const Solution expected = Reference(p).solve();
                            const Array h_step(expected.y.begin(), expected.y.begin() + B * H);
                            for (const KernelTable* table : supported_tables()) {
                                compare_with_reference<float>(*table, p, expected, h_step);
                                compare_with_reference<double>(*table, p, expected, h_step);
                            }
                        }
}

template <class Real>
void compare_linear(const KernelTable& table, Index B, Index I, Index O, bool biased) {
    std::mt19937 random(7);
    const Array x = draw(random, B * I, 2), weight = draw(random, O * I, 2), bias = draw(random, O, 2);
    Array expected;
    for (Index b = 0; b < B; ++b)
        for (Index o = 0; o < O; ++o) {
            double sum = biased ? bias[static_cast<std::size_t>(o)] : 0;
            for (Index i = 0; i < I; ++i)
                sum += x[static_cast<std::size_t>(b * I + i)] * weight[static_cast<std::size_t>(o * I + i)];
            expected.push_back(sum);
        }
    const Reals<Real> rows = convert<Real>(x), w = convert<Real>(weight), start = convert<Real>(bias);
    Reals<Real> y(expected.size());
    const LinearArgs<Real> args{B, I, O, rows.data(), w.data(), biased ? start.data() : nullptr, y.data()};
    if constexpr (sizeof(Real) == sizeof(float))
        table.f32.linear(args);
    else
        table.f64.linear(args);
    compare(
        y, expected,
        std::string(table.isa) + " linear " + std::to_string(B) + "," + std::to_string(I) + "," + std::to_string(O));
}

void test_linear() {
    for (const Index B : {1, 2, 3, 4, 5, 9})
        for (const Index I : {0, 1, 7, 16, 33, 130})
            for (const Index O : {1, 3, 16, 17, 65})
                for (const bool biased : {false, true})
                    for (const KernelTable* table : supported_tables()) {
                        compare_linear<float>(*table, B, I, O, biased);
                        compare_linear<double>(*table, B, I, O, biased);
                    }
}

// As many steps as it takes for a call to be worth waking the others.
Index steps_worth_threads(Cell cell, Index B, Index I, Index H) {
    return static_cast<Index>(200 / cost({kCells[static_cast<int>(cell)], {1, B, I, H, 0}, 1, 16}, {1, 1})) + 1;
}

// --- weight formats

// The problem with weights as a format keeps them, so that the reference has the same.
Problem kept_in(WeightFormat format, Problem p) {
    const auto round_rows = [&](Array& w, Index length) {
        for (auto row = w.begin(); row != w.end(); row += length) round_row(format, &*row, length, true);
    };
    round_rows(p.w_ih, p.size.I);
    if (!p.w_hh.empty()) round_rows(p.w_hh, p.size.H);
    return p;
}

// The problem of one of its rows.
Problem row_of(const Problem& p, Index b) {
    const auto [T, B, I, H, D, first_row, P] = p.size;
    Problem row = p;
    const auto take = [](Array& to, const Array& from, Index begin, Index n) {
        to.insert(to.end(), from.begin() + begin, from.begin() + begin + n);
    };
    row.size.B = 1;
    row.x.clear(), row.slot.clear(), row.dy.clear();
    for (Index t = 0; t < T; ++t) {
        if (D)
            row.slot.push_back(p.slot[static_cast<std::size_t>(t * B + b)]);
        else
            take(row.x, p.x, (t * B + b) * I, I);
        take(row.dy, p.dy, (t * B + b) * H, H);
    }
    for (int k = 0; k < p.info().states; ++k) {
        row.state_0[k].clear();
        take(row.state_0[k], p.state_0[k], b * H, H);
    }
    return row;
}

// The matrices of a problem as a format other than plain has them.
struct InFormat {
    std::vector<std::uint8_t> bytes[2];
    std::vector<float> scales[2];

    InFormat(WeightFormat format, const Problem& p) {
        add_rows(format, p.w_ih, p.size.I, 0);
        if (p.w_hh.empty()) return;
        const Index of_gates = p.info().gates * p.size.H * units_of_h(p.size);
        add_rows(format, {p.w_hh.begin(), p.w_hh.begin() + of_gates}, units_of_h(p.size), 1);
        add_rows(format, {p.w_hh.begin() + of_gates, p.w_hh.end()}, p.size.H, 1);
    }

    template <class Real>
    void give(ForwardArgs<Real>& args) const {
        for (int hidden = 0; hidden < 2; ++hidden)
            args.in_format[hidden] = {bytes[hidden].data(), scales[hidden].data()};
    }

private:
    void add_rows(WeightFormat format, Array w, Index length, int hidden) {
        for (auto row = w.begin(); row < w.end(); row += length) {
            const double scale = std::fabs(
                *std::max_element(row, row + length, [](double a, double b) { return std::fabs(a) < std::fabs(b); }));
            const float of_row = static_cast<float>(scale) / 127;
            scales[hidden].push_back(of_row);
            round_row(format, &*row, length, true);
            for (Index k = 0; k < length; ++k) add_number(format, row[k], of_row, bytes[hidden]);
        }
    }
    static void add_number(WeightFormat format, double number, float scale, std::vector<std::uint8_t>& to) {
        if (format == WeightFormat::int8) {
            const double q = scale == 0 ? 0 : std::nearbyint(number / double{scale});
            return to.push_back(static_cast<std::uint8_t>(static_cast<int>(q)));
        }
        const float single = static_cast<float>(number);
        std::uint8_t in_memory[sizeof single];
        std::memcpy(in_memory, &single, sizeof single);
        const std::uint16_t one = 1;
        std::uint8_t little;
        std::memcpy(&little, &one, 1);
        const std::uint8_t* const upper = in_memory + (little ? 2 : 0);
        to.insert(to.end(), upper, upper + 2);
    }
};

// The same call once more, from what is packed alone, with a tape of exactly the right size: it gives the same y, and
// h of the trace is y.
template <class Real>
void check_trace(const KernelTable& table, const Problem& p, ForwardArgs<Real> args, const Reals<Real>& expected) {
    const auto size = static_cast<std::size_t>(tape_size<Real>(table, p.cell, p.size, args.format));
    const auto plain = static_cast<std::size_t>(tape_size<Real>(table, p.cell, p.size, WeightFormat::plain));
    check(args.format == WeightFormat::plain ? size == plain : size < plain,
          "a tape for traces has what is for backward");
    const Buffer tape(size * sizeof(Real));
    Reals<Real> y(expected.size()), state[kMaxStates];
    args.tape = static_cast<Real*>(tape.data());
    args.y = y.data();
    if (args.format != WeightFormat::plain) args.w_ih = args.w_hh = args.b_ih = args.b_hh = args.vectors = nullptr;
    run_forward(table, p.cell, args, nullptr);
    check(y == expected, "a tape changes y");
    TraceArgs<Real> trace{};
    trace.size = p.size;
    trace.tape = args.tape;
    trace.format = args.format;
    trace.options = args.options;
    for (int k = 0; k < p.info().states; ++k) {
        state[k].resize(expected.size());
        trace.state[k] = state[k].data();
    }
    run_trace(table, p.cell, trace, nullptr);
    check(state[kH] == expected, "h of a trace is not y");
}

// Inference of a problem, with weights that are packed in a format.
template <class Real>
Reals<Real> infer(const KernelTable& table, const Problem& p, WeightFormat format) {
    const Inputs<Real> inputs(table, p);
    Reals<Real> y(p.dy.size()), state_n[kMaxStates];
    ForwardArgs<Real> args = inputs.forward;
    args.format = format;
    const InFormat in_format(format, p);
    if (format != WeightFormat::plain) in_format.give(args);
    args.y = y.data();
    for (int k = 0; k < p.info().states; ++k) {
        state_n[k].resize(p.state_0[k].size());
        args.state_n[k] = state_n[k].data();
    }
    ForwardArgs<Real> weights = args;
    weights.size.T = 0;
    const auto packed = pack(table, p.cell, weights, nullptr);
    args.packed = static_cast<Real*>(packed->memory.data());
    run_forward(table, p.cell, args, nullptr);
    if (std::none_of(y.begin(), y.end(), [](Real a) { return std::isnan(a); })) check_trace(table, p, args, y);
    return y;
}

template <class Real>
bool has_format(const KernelTable& table, WeightFormat format) {
    return kernels_of<Real>(table).product[static_cast<int>(format)]->multiply != nullptr;
}

template <class Real>
void check_format(const KernelTable& table, WeightFormat format, const Problem& p) {
    if (!has_format<Real>(table, format)) return;
    // No structured binding: lambdas cannot have those before C++20.
    const Index T = p.size.T, B = p.size.B, I = p.size.I, H = p.size.H, D = p.size.D;
    const std::string where = std::string(table.isa) + " " + p.info().name + " in format " +
                              std::to_string(static_cast<int>(format)) + ", " + std::to_string(B) + " rows";
    const Reals<Real> y = infer<Real>(table, p, format);
    // A number of the second step, or phase, that is nearly half-way between two is now and then rounded otherwise.
    const bool rounds_again =
        format != WeightFormat::plain && (T > 1 || p.info().recurrent > p.info().gates || p.resets_before());
    compare(y, Reference(kept_in(format, p), format).solve().y, where, rounds_again ? 2e-2 : kTolerance<Real>);
    // Whatever rows there are beside it.
    for (Index b = 0; b < B && B < 10; ++b) {
        const Reals<Real> alone = infer<Real>(table, row_of(p, b), format);
        for (Index t = 0; t < T; ++t)
            check(std::equal(alone.begin() + t * H, alone.begin() + (t + 1) * H, y.begin() + (t * B + b) * H),
                  where + ": a row alone differs");
    }
    // What is no number in a row is none in all that comes of it, and is nowhere else.
    const Index row = B / 2;
    const auto check_nan = [&](bool in_x, Index place) {
        Problem spoilt = p;
        (in_x ? spoilt.x : spoilt.state_0[kH])[static_cast<std::size_t>(place)] =
            std::numeric_limits<double>::quiet_NaN();
        const Reals<Real> got = infer<Real>(table, spoilt, format);
        for (Index u = 0; u < H; ++u)
            check(std::isnan(got[static_cast<std::size_t>(row * H + u)]), where + ": NaN is lost");
        for (Index n = 0; n < T * B * H; ++n) {
            const auto at = static_cast<std::size_t>(n);
            check(n / H % B == row || got[at] == y[at], where + ": a row with NaN changes another");
        }
    };
    const Index step = B > 9 ? 5 : 1;
    for (Index k = 0; k < I && !D; k += step) check_nan(true, row * I + k);
    for (Index k = 0; k < H && p.info().recurrent; k += step) check_nan(false, row * H + k);
}

// The tables, and those that multiply a format without an instruction for it, or with another form of it.
std::vector<const KernelTable*> tables_of(WeightFormat format) {
    const auto product = static_cast<std::size_t>(format);
    const std::vector<const KernelTable*> with_dots = supported_tables(), without_dots = supported_tables(false);
    std::vector<const KernelTable*> tables = with_dots;
    for (std::size_t k = 0; k < with_dots.size(); ++k)
        if (with_dots[k]->f32.product[product] != without_dots[k]->f32.product[product])
            tables.push_back(without_dots[k]);
#ifdef FASTRNN_EVEX
    if (format == WeightFormat::int8 && cpu_supports_avx512() && cpu_has_dots_avx512_int8()) {
        static KernelTable evex;
        for (const KernelTable* table : with_dots)
            if (std::string(table->isa) == "avx2") evex = *table;
        evex.f32.product[product] = &avx2::int8_evex_float32;
        tables.push_back(&evex);
    }
#endif
    return tables;
}

// What is packed, and packed anew by another table, is unpacked as it was given, bit for bit, whatever the bits.
void check_unpacked(const KernelTable& table, const KernelTable& other, Cell cell, WeightFormat format,
                    const Sizes& size) {
    std::mt19937 random(static_cast<unsigned>(size.H + size.I));
    const CellInfo& info = kCells[static_cast<int>(cell)];
    const std::vector<float> of_units(static_cast<std::size_t>(5 * info.gates * size.H), 0.5f);
    const PackedLayout layout{&table, cell, format, true, true, size.I, size.H, size.P};
    std::vector<std::uint8_t> given[2], got[2];
    std::vector<float> given_scales[2], scales[2];
    ForwardArgs<float> args{};
    args.size = size, args.format = format;
    args.b_ih = args.b_hh = args.vectors = of_units.data();
    UnpackedMatrix to[2];
    for (int hidden = 0; hidden < 2; ++hidden) {
        const auto [rows, numbers] = matrix_size(layout, hidden != 0);
        for (Index n = 0; n < numbers * bytes_of_number(format); ++n)
            given[hidden].push_back(static_cast<std::uint8_t>(random()));
        if (format == WeightFormat::int8)
            for (Index row = 0; row < rows; ++row) given_scales[hidden].push_back(static_cast<float>(random()));
        got[hidden].resize(given[hidden].size());
        scales[hidden].resize(given_scales[hidden].size());
        args.in_format[hidden] = {given[hidden].data(), given_scales[hidden].data()};
        to[hidden] = {got[hidden].data(), scales[hidden].data()};
    }
    std::shared_ptr<const Packed> packed = pack(table, cell, args, nullptr);
    packed = pack_anew(*packed, other, args, nullptr);
    check(packed->layout.table == &other, "not packed by the other table");
    unpack(*packed, to, nullptr);
    for (int hidden = 0; hidden < 2; ++hidden)
        check(got[hidden] == given[hidden] && scales[hidden] == given_scales[hidden],
              std::string(info.name) + " in format " + std::to_string(static_cast<int>(format)) + " from " + table.isa +
                  " to " + other.isa + ": what is unpacked differs");
}

void test_unpacked_weights() {
    for (int cell = 0; cell < kCellCount; ++cell)
        for (const WeightFormat format : {WeightFormat::bfloat16, WeightFormat::int8})
            for (const KernelTable* table : tables_of(format))
                for (const KernelTable* other : tables_of(format))
                    for (const auto& [I, H] : {std::array<Index, 2>{1, 1}, {9, 17}, {0, 5}, {33, 70}}) {
                        const CellInfo& info = kCells[cell];
                        const Index P = info.recurrent > info.gates ? (H + 1) / 2 : 0;
                        check_unpacked(*table, *other, static_cast<Cell>(cell), format, {0, 1, I, H, 0, nullptr, P});
                    }
}

void test_weight_formats() {
    for (int f = 0; f < kWeightFormatCount; ++f) {
        const auto format = static_cast<WeightFormat>(f);
        const std::vector<const KernelTable*> tables = tables_of(format);
        for (int cell = 0; cell < kCellCount; ++cell)
            for (const bool tokens : {false, true})
                for (const auto& [T, B, I, H] : {std::array<Index, 4>{3, 1, 9, 17},
                                                 {3, 2, 1, 33},
                                                 {2, 7, 33, 8},
                                                 {2, 50, 8, 33},
                                                 {1, 1, 37, 70},
                                                 {1, 9, 40, 37}}) {
                    const Problem p = make_problem(static_cast<Cell>(cell), T, B, I, H, tokens);
                    for (const KernelTable* table : tables) {
                        check_format<float>(*table, format, p);
                        check_format<double>(*table, format, p);
                    }
                }
        // Threads change no bit.
        for (const auto& [B, I, H] : {std::array<Index, 3>{3, 33, 129}, {64, 33, 65}}) {
            const Problem p = make_problem(Cell::lstm, steps_worth_threads(Cell::lstm, B, I, H), B, I, H, false);
            for (const KernelTable* table : tables) {
                if (!has_format<float>(*table, format)) continue;
                set_num_threads(1);
                const auto expected = infer<float>(*table, p, format);
                set_num_threads(3);
                check(infer<float>(*table, p, format) == expected, "threads differ in format " + std::to_string(f));
            }
        }
    }
}

// There is a probe of plain products, and of others exactly where their own instruction is what multiplies.
void test_probes() {
    const std::vector<const KernelTable*> tables = supported_tables(), without_dots = supported_tables(false);
    for (std::size_t k = 0; k < tables.size(); ++k)
        for (int format = 0; format < kWeightFormatCount; ++format) {
            const std::string where = std::string(tables[k]->isa) + " probe of format " + std::to_string(format);
            const auto probe = tables[k]->probes.products[format];
            const bool expected = format == static_cast<int>(WeightFormat::plain) ||
                                  tables[k]->f32.product[format] != without_dots[k]->f32.product[format];
            check((probe != nullptr) == expected, where + (probe ? " where there is no instruction" : " is missing"));
            if (!probe) continue;
            float sink;
            const double once = probe(1, &sink);
            const Index lanes = Index{1} << tables[k]->f32.lanes_log2;
            check(once >= static_cast<double>(2 * lanes) && probe(9, &sink) == 9 * once, where + " miscounts");
        }
}

// --- kept weights

// Every bit of some memory counts, whatever stands in it.
void test_fingerprint() {
    using Lanes = std::vector<std::uint64_t>;
    for (const KernelTable* table : supported_tables())
        for (const int bytes : {4, 8, 60, 128, 132, 400})
            for (const int fill : {0x00, 0xff, 0x3f}) {
                std::vector<unsigned char> memory(static_cast<std::size_t>(bytes), static_cast<unsigned char>(fill));
                const auto lanes = [&] {
                    Lanes lanes(kFingerprintLanes, 1);
                    table->fingerprint(memory.data(), memory.size(), lanes.data());
                    return lanes;
                };
                const Lanes before = lanes();
                for (std::size_t bit = 0; bit < 8 * memory.size(); ++bit) {
                    const auto flip = static_cast<unsigned char>(1u << bit % 8);
                    memory[bit / 8] = static_cast<unsigned char>(memory[bit / 8] ^ flip);
                    check(lanes() != before, std::string(table->isa) + " fingerprint: a bit does not count");
                    memory[bit / 8] = static_cast<unsigned char>(memory[bit / 8] ^ flip);
                }
                check(lanes() == before, std::string(table->isa) + " fingerprint is not the same again");
            }
}

// Calls with the same weights, others, and the first again, from several threads: as if nothing were kept.
template <class Real>
void keep_weights(bool tokens) {
    const Problem p = make_problem(Cell::gru_reset_after, 3, 2, 9, 17, tokens);
    Problem changed = p;
    changed.w_hh[changed.w_hh.size() - 1] += 0.5;
    const auto right = Run<Real>(active_table(), p).everything();
    const auto right_changed = Run<Real>(active_table(), changed).everything();
    check(right != right_changed, "the change changes nothing");
    KeptWeights kept(false);
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i)
        callers.emplace_back([&, i] {
            for (int k = 0; k < 24; ++k) {
                const bool other = (k + i) / 4 % 2 == 1;
                const auto got = Run<Real>(active_table(), other ? changed : p, &kept).everything();
                wrong += got != (other ? right_changed : right);
            }
        });
    for (std::thread& caller : callers) caller.join();
    check(wrong == 0, "kept weights are others than were given");
}

void test_kept_weights() {
    for (const bool tokens : {false, true}) {
        keep_weights<float>(tokens);
        keep_weights<double>(tokens);
    }
}

// --- the pool

constexpr double kWorthAll = 1e9;  // waking every thread

void test_threads_change_no_bit() {
    for (int k = 0; k < kCellCount; ++k) {
        const Cell cell = static_cast<Cell>(k);
        for (const auto& [B, I, H] : {std::array<Index, 3>{1, 33, 150}, {20, 33, 129}, {64, 33, 65}}) {
            const Problem p = make_problem(cell, steps_worth_threads(cell, B, I, H), B, I, H, false);
            for (const KernelTable* table : supported_tables()) {
                set_num_threads(1);
                const auto expected = Run<float>(*table, p).everything();
                // After a pause the others sleep, and come in the middle.
                for (const auto& [threads, pause] : {std::pair{2, 300}, std::pair{7, 0}}) {
                    set_num_threads(threads);
                    std::this_thread::sleep_for(std::chrono::microseconds(pause));
                    check(Run<float>(*table, p).everything() == expected, std::to_string(threads) + " threads differ");
                }
            }
        }
    }
}

void test_callers_share_the_pool() {
    set_num_threads(3);
    const Problem p = make_problem(Cell::lstm, steps_worth_threads(Cell::lstm, 33, 33, 65), 33, 33, 65, false);
    const auto expected = Run<float>(active_table(), p).everything();
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i)
        callers.emplace_back([&] {
            for (int k = 0; k < 20; ++k) wrong += Run<float>(active_table(), p).everything() != expected;
        });
    for (std::thread& caller : callers) caller.join();
    check(wrong == 0, "concurrent calls differ");
}

// On what grid there is, and for as many threads as servers have.
void test_plan() {
    for (const Cell cell : {Cell::rnn_tanh, Cell::gru_reset_after, Cell::lstm})
        for (const Index T : {1, 25, 1000})
            for (const Index B : {1, 2, 5, 16, 32, 128, 1000})
                for (const Index H : {16, 64, 128, 300, 512, 1024, 2048})
                    for (const double weight_bytes : {4.0, 2.0, 1.0}) {
                        const Workload work{kCells[static_cast<int>(cell)], {T, B, H, H, 0}, weight_bytes, 16};
                        const std::string what = std::string(work.cell.name) + " " + std::to_string(T) + "," +
                                                 std::to_string(B) + "," + std::to_string(H);
                        double before = cost(work, {1, 1});
                        for (const int threads : {1, 2, 3, 4, 8, 12, 16, 32, 48, 64}) {
                            const Split split = choose_split(work, threads);
                            const double chosen = cost(work, split);
                            check(split.batch_parts >= 1 && split.unit_parts >= 1 && parts(split) <= threads,
                                  what + ": too many threads");
                            check(split.batch_parts <= B && split.unit_parts <= ceil_div(H, 16),
                                  what + ": a thread without work");
                            // Not every number of parts is looked at.
                            check(chosen <= before * (threads > 8 ? 1.1 : 1), what + ": more threads cost more");
                            before = std::min(before, chosen);
                        }
                    }
    const auto split = [](Cell cell, const Sizes& size, int threads) {
        return choose_split({kCells[static_cast<int>(cell)], size, 4, 16}, threads);
    };
    for (const int threads : {4, 16, 64}) {
        check(parts(split(Cell::lstm, {1000, 1, 16, 16, 0}, threads)) == 1, "a barrier a step for nothing");
        check(parts(split(Cell::lstm, {1, 1, 64, 64, 0}, threads)) == 1, "a team for a microsecond");
        check(split(Cell::lstm, {100, 1000, 64, 64, 0}, threads).unit_parts == 1, "barriers beside many rows");
        check(split(Cell::lstm, {100, 1, 2048, 2048, 0}, threads).unit_parts > threads / 2,
              "one large row, few threads");
        const Split small = split(Cell::lstm, {100, 1, 128, 128, 0}, threads);
        check(small.batch_parts == 1 && small.unit_parts <= 8, "more threads than a small row is worth");
    }
    const Split both = split(Cell::lstm, {100, 16, 256, 256, 0}, 64);
    check(both.batch_parts > 1 && both.unit_parts > 1 && parts(both) > 16, "few rows of many units are not shared");
    const Index first_row[] = {0, 64, 65};
    const Sizes uneven{2, 64, 1024, 1024, 0, first_row};
    check(split(Cell::lstm, uneven, 4).batch_parts == 1, "sequences of different lengths are shared by rows");
}

// A call that is worth little wakes nobody; many that follow each other are worth it.
void test_small_calls_wake_others_once_they_are_many() {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    check(Crew(2, 40).size() == 1, "a small call has woken another thread");
    int calls = 1;
    while (calls < 1000 && Crew(2, 40).size() == 1) ++calls;
    check(calls < 1000, "many small calls have woken no other thread");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    check(Crew(2, 40).size() == 1, "after a pause, a small call has woken another thread");
    check(Crew(2, kWorthAll).size() == 2, "a large call has woken no other thread");
}

// Who has waited for another thread, that had been taken off its core, makes some calls alone.
void test_who_was_held_up_goes_on_alone() {
    const auto hold_up = [](const void*, Team& team) {
        if (team.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        // The caller is not through before the other has come.
        for (int k = 0; team.rank() == 0 && k < 3; ++k) std::this_thread::sleep_for(std::chrono::microseconds(300));
    };
    Crew(2, kWorthAll).run(2, hold_up, nullptr, nullptr);
    check(Crew(2, 1000).size() == 2, "who was held up by a small part of a call goes on alone");
    Crew(2, 1000).run(2, hold_up, nullptr, nullptr);
    check(Crew(2, 1000).size() == 1, "who was held up does not go on alone");
    int calls = 1;
    while (calls < 1000 && Crew(2, 1000).size() == 1) ++calls;
    check(calls > 2 && calls < 1000, "who was held up goes on alone for " + std::to_string(calls) + " calls");
}

// Who comes late, or never, holds nobody up: every piece of every round goes to exactly one member, and what they did
// in a round is seen by all that are there in the next.
void test_late_members() {
    for (const int threads : {1, 2, 4, 7})
        for (int repeat = 0; repeat < 4; ++repeat) {
            struct Context {
                int repeat, round = 0;
                std::vector<int> given = std::vector<int>(40);
                std::atomic<int> late{0};
            } context;
            context.repeat = repeat;
            Crew(threads, kWorthAll)
                .run(
                    threads,
                    [](const void* at, Team& team) {
                        Context& context = *static_cast<Context*>(const_cast<void*>(at));
                        const int delay[] = {0, 30, 100, 300};
                        if (team.rank() > 0)
                            std::this_thread::sleep_for(
                                std::chrono::microseconds(delay[(team.rank() + context.repeat) % 4]));
                        for (int round = 1; round <= 300; ++round) {
                            if (!team.present()) ++context.late;
                            const auto pieces = static_cast<std::ptrdiff_t>(context.given.size()) - round % 40;
                            for (std::ptrdiff_t piece; (piece = team.claim(pieces, round % 2 != 0)) >= 0;)
                                ++context.given.at(static_cast<std::size_t>(piece));
                            if (team.claim(pieces) != -1) throw std::logic_error("a piece too many");
                            team.barrier();
                            for (std::ptrdiff_t piece = 0; team.present() && piece < pieces; ++piece)
                                if (context.given.at(static_cast<std::size_t>(piece)) != 1)
                                    throw std::logic_error("a piece is not given once");
                            team.barrier();
                            for (std::ptrdiff_t piece; team.present() && (piece = team.claim(pieces)) >= 0;)
                                context.given.at(static_cast<std::size_t>(piece)) = 0;
                            team.barrier();
                        }
                        if (team.rank() == 0) context.round = 300;
                    },
                    &context, nullptr);
            check(context.round == 300, "the caller is not through");
            check(threads > 1 || context.late == 0, "the only member is late");
        }
}

void test_exceptions() {
    const std::uint64_t mode = read_float_mode();
    for (int repeat = 0; repeat < 200; ++repeat) {
        for (const int threads : {1, 2, 4}) {
            const int failing = repeat % threads;
            std::string caught;
            try {
                Crew(threads, kWorthAll)
                    .run(
                        threads,
                        [](const void* context, Team& team) {
                            if (team.rank() == *static_cast<const int*>(context)) throw std::runtime_error("injected");
                            for (;;) team.barrier();
                        },
                        &failing, nullptr);
            } catch (const std::runtime_error& error) {
                caught = error.what();
            }
            check(caught == "injected", "an exception was lost");
        }
    }
    check(read_float_mode() == mode, "the floating-point mode has changed");
}

void test_stop() {
    for (const int threads : {1, 3}) {
        bool stopped = false;
        try {
            Crew(threads, kWorthAll)
                .run(
                    threads,
                    [](const void*, Team& team) {
                        for (;;) {
                            team.barrier();
                            team.poll(1e6);
                        }
                    },
                    nullptr, [] { return true; });
        } catch (const Stopped&) {
            stopped = true;
        }
        check(stopped, "the stop was lost");
    }
}

}  // namespace

int main() {
    for (const KernelTable* table : supported_tables()) std::printf("%s ", table->isa);
    std::printf("\n");
    test_cells();
    test_linear();
    test_fingerprint();
    test_weight_formats();
    test_unpacked_weights();
    test_probes();
    test_kept_weights();
    test_plan();
    test_late_members();
    test_exceptions();
    test_stop();
    test_small_calls_wake_others_once_they_are_many();
    test_who_was_held_up_goes_on_alone();
    test_threads_change_no_bit();
    test_callers_share_the_pool();
    std::printf(failures ? "%d failures\n" : "all is well\n", failures);
    return failures ? 1 : 0;
}
