// Called as C calls: a small step takes less time than pybind11's dispatcher.
#include <algorithm>
#include <cstring>

#include "arguments.h"
#include "bindings.h"
#include "contract.h"
#include "dispatch.h"
#include "float_mode.h"
#include "format_weights.h"
#include "gil.h"
#include "loop/sequence.h"
#include "packed.h"
#include "plan.h"
#include "run.h"
#include "sums.h"
#include "tape.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

py::object steal(PyObject* object) {
    if (!object) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
}

// A tuple of the first `count` of `items`, which it takes over.
PyObject* tuple_of(py::object* items, int count) {
    py::object tuple = steal(PyTuple_New(count));
    for (int i = 0; i < count; ++i) PyTuple_SET_ITEM(tuple.ptr(), i, items[i].release().ptr());
    return tuple.release().ptr();
}

// --- forward

struct KeptObject {
    PyObject_HEAD KeptWeights kept;
};

constexpr char kKeptDoc[] =
    "KeptWeights(frozen, /)\n--\n\n"
    "Packed weights of one layer, kept from call to call while they are the same; or, if frozen, for good.";

PyTypeObject* kept_type = nullptr;

PyObject* new_kept(PyTypeObject*, PyObject* args, PyObject* keywords) {
    return with_python_errors([&] {
        constexpr Function function{"layer", "kept", "KeptWeights"};
        expect_positional("KeptWeights", args, keywords, 1);
        const bool frozen = check_bool(function, "frozen", PyTuple_GET_ITEM(args, 0));
        KeptObject* const object = PyObject_New(KeptObject, kept_type);
        if (!object) throw py::error_already_set();
        new (&object->kept) KeptWeights(frozen);
        return reinterpret_cast<PyObject*>(object);
    });
}

void deallocate_kept(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    reinterpret_cast<KeptObject*>(self)->kept.~KeptWeights();
    PyObject_Free(self);
    Py_DECREF(type);
}

// What a call has of packed weights, if anything: what it may keep itself, or what there is in a format.
struct Kept {
    Kept(const Function& function, PyObject* object) {
        if (object == Py_None) return;
        if (Py_TYPE(object) == kept_type)
            plain = &reinterpret_cast<KeptObject*>(object)->kept;
        else
            in_format = format_weights_in(object);
        if (!plain && !in_format) wrong_type(function.name(), "kept", object, "KeptWeights, FormatWeights or None");
    }

    KeptWeights* plain = nullptr;
    FormatWeights* in_format = nullptr;
};

PyObject* bytes_kept(PyObject* self, void*) {
    return PyLong_FromSize_t(reinterpret_cast<KeptObject*>(self)->kept.bytes());
}

PyObject* expect_the_same(PyObject* self, PyObject*) {
    return with_python_errors([&] {
        reinterpret_cast<KeptObject*>(self)->kept.expect_the_same();
        return py::none().release().ptr();
    });
}

template <class Real>
PyObject* forward(const Inputs& in, bool training, bool sequence, const Kept& kept) {
    const CellInfo& info = info_of(in.cell);
    const KernelTable& table = active_table();
    const std::shared_ptr<const Packed> packed = kept.in_format ? packed_for(table, in, *kept.in_format) : nullptr;
    const WeightFormat format = packed ? packed->layout.format : WeightFormat::plain;
    Tape tape{in.cell,
              in.single,
              &table,
              format,
              in.size,
              in.dense(),
              {},
              in.first_row,
              check_options(in.function, in.cell, in.options),
              Regularising(in),
              {}};
    if (!tape.first_row.empty()) tape.size.first_row = tape.first_row.data();
    const Index B = in.size.B, H = in.size.H;
    // Results first: where there is no memory for them, much work is saved.
    py::object results[1 + kMaxStates + 1];
    results[0] = sequence ? new_sequence(in.single, tape.size, H) : py::object(py::none());
    for (int s = 0; s < info.states; ++s) results[1 + s] = new_array(in.single, {B, H});

    if (in.tokens) {
        tape.tokens = in.token_table();
        tape.size.D = static_cast<Index>(tape.tokens.id.size());
    }
    if (training) {
        look_at_limits(kernels_of<Real>(table), tape.options.view<Real>());
        tape.memory =
            Buffer(static_cast<std::size_t>(tape_size<Real>(table, in.cell, tape.size, format)) * sizeof(Real));
    }

    Copies copies;
    ForwardArgs<Real> args{};
    args.size = tape.size;
    if (in.tokens)
        args.tokens = tape.tokens.view();
    else
        args.x = copies.data<Real>(in.x);
    args.format = format;
    if (packed) {
        args.packed = static_cast<Real*>(packed->memory.data());
    } else {
        args.w_ih = copies.data<Real>(in.w_ih);
        args.w_hh = copies.data<Real>(in.w_hh);
        args.b_ih = copies.data<Real>(in.b_ih);
        args.b_hh = copies.data<Real>(in.b_hh);
        args.vectors = copies.data<Real>(in.vectors);
    }
    args.options = tape.options.view<Real>();
    args.regularisation = tape.regularising.view<Real>();
    if (sequence) args.y = data_of<Real>(results[0]);
    for (int s = 0; s < info.states; ++s) {
        args.state_0[s] = copies.data<Real>(in.state[s]);
        args.state_n[s] = data_of<Real>(results[1 + s]);
    }
    args.tape = static_cast<Real*>(tape.memory.data());

    const StopHook stop = stop_hook(step_flops(info, args.size) * static_cast<double>(in.size.T));
    without_gil([&] {
        if (kept.plain)
            kept.plain->run_forward(table, in.cell, args, stop);
        else
            run_forward(table, in.cell, args, stop);
    });
    results[1 + info.states] = training ? make_tape(std::move(tape)) : py::object(py::none());
    return tuple_of(results, 2 + info.states);
}

// forward(cell, training, sequence, kept, row_counts, x, w_ih, w_hh, b_ih, b_hh, h0, c0, vectors, options,
//         regularised)
PyObject* call_forward(PyObject*, PyObject* const* args, Py_ssize_t given) {
    return with_python_errors([&] {
        constexpr int first = 5;
        expect_count("forward", given, first + Inputs::kArguments);
        const Cell cell = find_cell(args[0]);
        const Function function{info_of(cell).family, "forward"};
        const bool training = check_bool(function, "training", args[1]);
        const bool sequence = check_bool(function, "sequence", args[2]);
        const Kept kept(function, args[3]);
        const Inputs inputs(function, cell, args + first, args[4]);
        return inputs.single ? forward<float>(inputs, training, sequence, kept)
                             : forward<double>(inputs, training, sequence, kept);
    });
}

// --- backward

template <class Real>
PyObject* backward(const Tape& tape, const Upstream& upstream, Sums* sums, bool wants_dh) {
    const CellInfo& info = info_of(tape.cell);
    const Index B = tape.size.B, I = tape.size.I, H = tape.size.H;
    Sums own;
    Sums& weights = sums ? *sums : own;
    const bool adds = weights.fit({info.family, "backward"}, tape);
    py::object results[2 + Sums::kCount + kMaxStates];
    results[0] = tape.dense ? new_sequence(tape.single, tape.size, I) : py::object(py::none());
    results[1 + Sums::kCount + info.states] =
        wants_dh ? new_sequence(tape.single, tape.size, H) : py::object(py::none());
    for (int s = 0; s < info.states; ++s) results[1 + Sums::kCount + s] = new_array(tape.single, {B, H});

    Copies copies;
    BackwardArgs<Real> args{};
    args.size = tape.size;
    args.tape = static_cast<const Real*>(tape.memory.data());
    if (!tape.dense) args.tokens = tape.tokens.view();
    args.options = tape.options.view<Real>();
    args.regularisation = tape.regularising.view<Real>();
    args.dy = copies.data<Real>(upstream.dy);
    if (tape.dense) args.dx = data_of<Real>(results[0]);
    Real** const dweights[] = {&args.dw_ih, &args.dw_hh, &args.db_ih, &args.db_hh, &args.dvectors};
    for (int i = 0; i < Sums::kCount; ++i)
        if (weights.array[i]) *dweights[i] = data_of<Real>(weights.array[i]);
    args.adds = adds;
    if (sums) args.rest = weights.rest<Real>();
    if (wants_dh) args.dh = data_of<Real>(results[1 + Sums::kCount + info.states]);
    for (int s = 0; s < info.states; ++s) {
        args.dstate_n[s] = copies.data<Real>(upstream.dstate[s]);
        args.dstate_0[s] = data_of<Real>(results[1 + Sums::kCount + s]);
    }

    const StopHook stop = stop_hook(2 * step_flops(info, args.size) * static_cast<double>(tape.size.T));
    weights.started = false;  // unless all goes well, they are of no use any more
    without_gil([&] { run_backward(*tape.table, tape.cell, args, stop); });
    weights.started = true;
    for (int i = 0; i < Sums::kCount; ++i)
        results[1 + i] = sums || !weights.array[i] ? py::object(py::none()) : std::move(weights.array[i]);
    return tuple_of(results, 2 + Sums::kCount + info.states);
}

// backward(family, tape, sums, wants_dh, dy, dh_n, dc_n)
PyObject* call_backward(PyObject*, PyObject* const* args, Py_ssize_t given) {
    return with_python_errors([&] {
        constexpr int first = 4;
        expect_count("backward", given, first + Upstream::kArguments);
        const Function function{find_family(args[0]), "backward"};
        const std::string expected =
            "the tape of " + Function{function.family, "forward"}.name() + "(..., training=True)";
        const Tape* const tape = tape_in(args[1]);
        if (!tape) wrong_type(function.name(), "tape", args[1], expected);
        if (std::strcmp(info_of(tape->cell).family, function.family) != 0)
            throw py::type_error(function.name() + ": tape is that of " + info_of(tape->cell).family +
                                 "_forward, expected " + expected);
        if (tape->format != WeightFormat::plain)
            throw py::value_error(
                function.name() +
                ": tape is that of a call with weights of fewer bits than 32, which are for inference "
                "and traces alone: call with float32 ones");
        const Upstream upstream(function, tape->cell, tape->single, tape->size, args + first);
        const TakenSums sums(function, args[2]);
        const bool wants_dh = check_bool(function, "wants_dh", args[3]);
        return tape->single ? backward<float>(*tape, upstream, sums.get(), wants_dh)
                            : backward<double>(*tape, upstream, sums.get(), wants_dh);
    });
}

// --- trace

template <class Real>
PyObject* trace(const Tape& tape) {
    const CellInfo& info = info_of(tape.cell);
    py::dict arrays;
    const auto add = [&](char name) {
        const py::object array = new_sequence(tape.single, tape.size, tape.size.H);
        arrays[py::str(&name, 1)] = array;
        return data_of<Real>(array);
    };
    TraceArgs<Real> args{};
    args.size = tape.size;
    args.format = tape.format;
    args.tape = static_cast<const Real*>(tape.memory.data());
    args.options = tape.options.view<Real>();
    args.regularisation = tape.regularising.view<Real>();
    for (int s = 0; s < info.states; ++s) args.state[s] = add("hc"[s]);
    for (int g = 0; info.planes[g]; ++g) args.gate[g] = add(info.planes[g]);
    const Index rows = tape.size.first_row ? tape.size.first_row[tape.size.T] : tape.size.T * tape.size.B;
    // Some dozen operations a number.
    const StopHook stop = stop_hook(100.0 * static_cast<double>(rows) * static_cast<double>(tape.size.H));
    without_gil([&] { run_trace(*tape.table, tape.cell, args, stop); });
    return arrays.release().ptr();
}

PyObject* call_trace(PyObject*, PyObject* tape) {
    return with_python_errors([&] {
        const Tape* const found = tape_in(tape);
        if (!found) wrong_type("trace", "tape", tape, "the tape of a forward call with training=True");
        return found->single ? trace<float>(*found) : trace<double>(*found);
    });
}

PyObject* call_block_steps(PyObject*, PyObject* const* args, Py_ssize_t given) {
    return with_python_errors([&] {
        expect_count("block_steps", given, 2);
        const Function function{"", "", "block_steps"};
        const Index B = check_size(function, "batch", args[0]), H = check_size(function, "hidden_size", args[1]);
        return PyLong_FromSsize_t(block_steps({PTRDIFF_MAX, B, 0, H, 0}));
    });
}

PyObject* call_addressable(PyObject*, PyObject* const* args, Py_ssize_t given) {
    return with_python_errors([&] {
        expect_count("addressable", given, 5);
        const Function function{"", "", "addressable"};
        const Cell cell = find_cell(args[0]);
        Sizes size{};
        Index* const sizes[] = {&size.T, &size.B, &size.I, &size.H};
        for (int i = 0; i < 4; ++i) *sizes[i] = check_size(function, "size", args[1 + i]);
        return PyBool_FromLong(addressable(info_of(cell), size));
    });
}

// --- step

template <class Real>
PyObject* step(const Inputs& in) {
    const CellInfo& info = info_of(in.cell);
    py::object results[kMaxStates];
    for (int s = 0; s < info.states; ++s) results[s] = new_array(in.single, {in.size.B, in.size.H});

    Copies copies;
    std::vector<std::int64_t> tokens;
    StepArgs<Real> args{};
    args.size = in.size;
    if (in.tokens) {
        args.size.D = args.size.B;
        tokens = in.token_list();
        args.token = tokens.data();
    } else {
        args.x = copies.data<Real>(in.x);
    }
    args.w_ih = copies.data<Real>(in.w_ih);
    args.w_hh = copies.data<Real>(in.w_hh);
    args.b_ih = copies.data<Real>(in.b_ih);
    args.b_hh = copies.data<Real>(in.b_hh);
    for (int s = 0; s < info.states; ++s) {
        args.state[s] = copies.data<Real>(in.state[s]);
        args.next_state[s] = data_of<Real>(results[s]);
    }

    const KernelTable& table = active_table();
    const double flops = step_flops(info, args.size);
    if (flops < kWorthReleasingGil) {
        run_step(table, in.cell, args, nullptr);
    } else {
        const StopHook stop = stop_hook(flops);
        without_gil([&] { run_step(table, in.cell, args, stop); });
    }
    return info.states == 1 ? results[0].release().ptr() : tuple_of(results, info.states);
}

// One public step function: its parameters are those of Inputs, without c where there is no cell state, and the option.
struct StepFunction {
    Function function;
    Signature signature;
    Cell (*cell)(const Function&, PyObject* option);
    int option;  // which parameter it is
};

constexpr int kNoOption = Signature::kMost;

Cell only_lstm(const Function&, PyObject*) { return Cell::lstm; }

constexpr StepFunction kLstmStep{
    {"lstm", "step"}, {"lstm_step", 7, 3, 7, {"x", "w_ih", "w_hh", "b_ih", "b_hh", "h", "c"}}, only_lstm, kNoOption};
constexpr StepFunction kGruStep{{"gru", "step"},
                                {"gru_step", 7, 3, 6, {"x", "w_ih", "w_hh", "b_ih", "b_hh", "h", "reset_after"}},
                                cell_by_reset,
                                6};
constexpr StepFunction kRnnStep{{"rnn", "step"},
                                {"rnn_step", 7, 3, 6, {"x", "w_ih", "w_hh", "b_ih", "b_hh", "h", "nonlinearity"}},
                                cell_by_nonlinearity,
                                6};

template <const StepFunction& called>
PyObject* call_step(PyObject*, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
    return with_python_errors([&] {
        PyObject* values[Signature::kMost + 1] = {};
        called.signature.parse(args, given, keywords, values);
        const Cell cell = called.cell(called.function, values[called.option]);
        PyObject* arguments[Inputs::kArguments] = {};
        const int states = info_of(cell).states;
        std::copy(values, values + Inputs::State0 + states, arguments);
        const Inputs inputs(called.function, cell, arguments);
        return inputs.single ? step<float>(inputs) : step<double>(inputs);
    });
}

// --- what often follows a step

constexpr Signature kLinearSignature{"linear", 4, 2, 4, {"x", "weight", "bias", "out"}};

template <class Real>
void linear(const LinearInputs& in, const py::object& out, void (*kernel)(const LinearArgs<Real>&)) {
    Copies copies;
    LinearArgs<Real> args{in.B, in.I, in.O, nullptr, nullptr, nullptr, nullptr};
    args.x = copies.data<Real>(in.x);
    args.weight = copies.data<Real>(in.weight);
    args.bias = copies.data<Real>(in.bias);
    args.y = data_of<Real>(out);
    const auto run = [&] {
        const KernelFloatMode mode;
        kernel(args);
    };
    const double row = 2.0 * static_cast<double>(in.I) * static_cast<double>(in.O);
    if (row * static_cast<double>(in.B) < kWorthReleasingGil) return run();
    // Made for few rows: of many, whole tiles at a time, so that signals are seen in between.
    const Index most = 4 * std::max<Index>(1, 12'500'000 / std::max<Index>(1, in.I * in.O));
    for (Index left = in.B; left > 0; left -= most, args.x += most * in.I, args.y += most * in.O) {
        args.B = std::min(most, left);
        without_gil(run);
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
}

PyObject* call_linear(PyObject*, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
    return with_python_errors([&] {
        PyObject* values[Signature::kMost] = {};
        kLinearSignature.parse(args, given, keywords, values);
        const LinearInputs in(values);
        py::object out = in.out ? py::reinterpret_borrow<py::object>(in.out) : new_array(in.single, {in.B, in.O});
        if (in.single)
            linear<float>(in, out, active_table().f32.linear);
        else
            linear<double>(in, out, active_table().f64.linear);
        return out.release().ptr();
    });
}

// --- sums and fingerprints

template <class Real>
py::object column_sums(const Real* rows, Index depth, Index n, const ArrayKernels<Real>& arrays) {
    const py::object sums = new_array(sizeof(Real) == sizeof(float), {n});
    Buffer memory(static_cast<std::size_t>(n) * sizeof(Real));
    Real *const sum = data_of<Real>(sums), *const rest = static_cast<Real*>(memory.data());
    arrays.column_sums(rows, n, {0, n}, 0, false, sum, rest);
    constexpr Index together = 16;  // rows that the kernel adds at once: so the parts change no bit
    const Index at_once = std::max<Index>(1, kNumbersAtOnce / std::max<Index>(1, n * together)) * together;
    in_parts(depth, at_once, [&](Index begin, Index end) {
        const KernelFloatMode mode;
        arrays.column_sums(rows + begin * n, n, {0, n}, end - begin, true, sum, rest);
        return true;
    });
    for (Index i = 0; i < n; ++i) sum[i] += rest[i];
    return sums;
}

PyObject* call_column_sums(PyObject*, PyObject* array) {
    return with_python_errors([&] {
        const Floats rows("column_sums", array, 2);
        Copies copies;
        const KernelTable& table = active_table();
        return (rows.single ? column_sums(copies.data<float>(array), rows.shape[0], rows.shape[1], *table.f32.arrays)
                            : column_sums(copies.data<double>(array), rows.shape[0], rows.shape[1], *table.f64.arrays))
            .release()
            .ptr();
    });
}

PyObject* call_fingerprint(PyObject*, PyObject* array) {
    return with_python_errors([&] {
        const Bytes bytes("fingerprint", array);
        std::uint64_t lanes[kFingerprintLanes] = {};
        in_parts(bytes.count, 64 * kNumbersAtOnce, [&](Index begin, Index end) {
            active_table().fingerprint(bytes.data + begin, static_cast<std::size_t>(end - begin), lanes);
            return true;
        });
        return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(lanes), sizeof lanes);
    });
}

constexpr char kColumnSumsDoc[] =
    "column_sums($module, rows, /)\n--\n\n"
    "Return the sum (n,) over all rows (N, n), right to the last bit or two for any N.";
constexpr char kFingerprintDoc[] =
    "fingerprint($module, array, /)\n--\n\n"
    "Return bytes that are others if any one number of the array has changed.";

constexpr char kLinearDoc[] =
    "linear($module, /, x, weight, bias=None, out=None)\n--\n\n"
    "y = x W^T + b of a few rows, on one thread: what often follows a step.\n\n"
    "Args:\n"
    "    x: (B, I), float32 or float64.\n"
    "    weight: (O, I), of the same dtype.\n"
    "    bias: (O,), or None for zeros.\n"
    "    out: (B, O), contiguous, which shares no memory with the others; or None for a new array.\n\n"
    "Returns y (B, O), which is `out` if there is one: then nothing is allocated.\n\n"
    "Raises:\n"
    "    TypeError: an argument is not an array, or has another dtype.\n"
    "    ValueError: a shape does not fit, or `out` cannot be written to.\n\n"
    "From some ten rows on, NumPy's product is faster.";

constexpr char kForwardDoc[] =
    "forward($module, cell, training, sequence, kept, row_counts, x, w_ih, w_hh, b_ih, b_hh, h0, c0, vectors, "
    "options, regularised, /)\n--\n\n"
    "Return (y, h_n, tape), or (y, h_n, c_n, tape). See fastrnn.functional. y is None unless `sequence`.\n\n"
    "`kept` is None, or keeps the packed weights for the next call with the same weights; or it is FormatWeights, and\n"
    "w_ih and w_hh have shapes alone, of which nothing is read. `row_counts` is None, or\n"
    "(T,): how many rows each step has, the longest sequences being the first rows; then arrays over (T, B) are over\n"
    "all of them together. `vectors` (V, H) are the parameters that each unit has for itself, or None; `options` the\n"
    "CellOptions of the cell, None where it has none.\n"
    "The tape of weights in another format than 'float32' is for `trace` alone.\n"
    "`regularised` is None, or what h is multiplied with before W_hh, (B, H) or None, and for each state how much of\n"
    "its change each row takes over, (N, H) for all N rows, (1, H) or None: the tape refers to these, which must not\n"
    "change.";
constexpr char kBackwardDoc[] =
    "backward($module, family, tape, sums, wants_dh, dy, dh_n, dc_n, /)\n--\n\n"
    "Return (dx, dw_ih, dw_hh, db_ih, db_hh, dvectors, dh0, dh), with dc0 before dh where there is one, and None for\n"
    "what the cell has not. `sums` is None, or the Sums to which the five from dw_ih on are added, which are then\n"
    "None. dh is None unless `wants_dh`, or dL/dh of every step.";
constexpr char kAddressableDoc[] =
    "addressable($module, cell, T, B, I, H, /)\n--\n\n"
    "Return whether memory might hold what a call of these sizes needs.";
constexpr char kBlockStepsDoc[] =
    "block_steps($module, batch, hidden_size, /)\n--\n\n"
    "Return how many steps backward goes back at a time: cut after a multiple of them, a sequence gives the same bits.";
constexpr char kTraceDoc[] =
    "trace($module, tape, /)\n--\n\n"
    "Return the states and gates of every step by name, each of the shape of y.";

#define FASTRNN_STEP_ARGUMENTS(gates)                                                                           \
    "Args:\n"                                                                                                   \
    "    x: (B, I), float32 or float64; or tokens (B,) of any integer dtype, each a one-hot input of size I.\n" \
    "    w_ih, w_hh: (" gates "H, I) and (" gates                                                               \
    "H, H), of the same dtype as x.\n"                                                                          \
    "    b_ih, b_hh: (" gates "H,), or None for zeros.\n"
#define FASTRNN_STEP_ERRORS                                                     \
    "Raises:\n"                                                                 \
    "    TypeError: an argument is not an array, or has another dtype.\n"       \
    "    ValueError: a shape does not fit, or a token is outside 0 .. I-1.\n\n" \
    "T steps of a sequence at once are faster than T calls of this."

constexpr char kLstmStepDoc[] =
    "lstm_step($module, /, x, w_ih, w_hh, b_ih=None, b_hh=None, h=None, c=None)\n--\n\n"
    "One step of an LSTM: the new states (h, c), each (B, H), from the input and the states before.\n\n"
    "    i, f, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh)    g = tanh(W_ih x + b_ih + W_hh h + b_hh)\n"
    "    c_new = f * c + i * g\n"
    "    h_new = o * tanh(c_new)\n\n" FASTRNN_STEP_ARGUMENTS("4*")
    "        Gate order: i, f, g, o.\n"
    "    h, c: (B, H), or None for zeros.\n\n" FASTRNN_STEP_ERRORS;

constexpr char kGruStepDoc[] =
    "gru_step($module, /, x, w_ih, w_hh, b_ih=None, b_hh=None, h=None, *, reset_after=True)\n--\n\n"
    "One step of a GRU: the new state (B, H) from the input and the state before.\n\n"
    "    r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh)\n"
    "    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))     reset_after\n"
    "    n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)     otherwise\n"
    "    h_new = (1 - z) * n + z * h\n\n" FASTRNN_STEP_ARGUMENTS("3*")
    "        Gate order: r, z, n.\n"
    "    h: (B, H), or None for zeros.\n"
    "    reset_after: whether r is applied after the product with W_hn, as in PyTorch.\n\n" FASTRNN_STEP_ERRORS;

constexpr char kRnnStepDoc[] =
    "rnn_step($module, /, x, w_ih, w_hh, b_ih=None, b_hh=None, h=None, *, nonlinearity='tanh')\n--\n\n"
    "One step of a plain recurrent net: the new state (B, H) from the input and the state before.\n\n"
    "    h_new = tanh(W_ih x + b_ih + W_hh h + b_hh)       or relu\n\n" FASTRNN_STEP_ARGUMENTS("")
    "    h: (B, H), or None for zeros.\n"
    "    nonlinearity: 'tanh' or 'relu'.\n\n" FASTRNN_STEP_ERRORS;

}  // namespace

void bind_cells(py::module_& m) {
    static PyMethodDef methods[] = {{"expect_the_same", expect_the_same, METH_NOARGS,
                                     "expect_the_same($self, /)\n--\n\nHave the weights of the next call packed, as if "
                                     "one had been given them before."},
                                    {}};
    static PyGetSetDef properties[] = {
        {"nbytes", bytes_kept, nullptr, "Bytes of what is packed: 0 where nothing is.", nullptr}, {}};
    static PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>(kKeptDoc)},
                                  {Py_tp_methods, methods},
                                  {Py_tp_getset, properties},
                                  {Py_tp_new, reinterpret_cast<void*>(new_kept)},
                                  {Py_tp_dealloc, reinterpret_cast<void*>(deallocate_kept)},
                                  {0, nullptr}};
    static PyType_Spec spec = {"fastrnn._core.KeptWeights", sizeof(KeptObject), 0, Py_TPFLAGS_DEFAULT, slots};
    PyObject* const type = PyType_FromSpec(&spec);
    if (!type) throw py::error_already_set();
    kept_type = reinterpret_cast<PyTypeObject*>(type);  // keeps this reference for the life of the process
    m.add_object("KeptWeights", type);
    static PyMethodDef functions[] = {
        {"forward", as_c(call_forward), METH_FASTCALL, kForwardDoc},
        {"backward", as_c(call_backward), METH_FASTCALL, kBackwardDoc},
        {"addressable", as_c(call_addressable), METH_FASTCALL, kAddressableDoc},
        {"block_steps", as_c(call_block_steps), METH_FASTCALL, kBlockStepsDoc},
        {"trace", call_trace, METH_O, kTraceDoc},
        {"column_sums", call_column_sums, METH_O, kColumnSumsDoc},
        {"fingerprint", call_fingerprint, METH_O, kFingerprintDoc},
        {"linear", as_c(call_linear), METH_FASTCALL | METH_KEYWORDS, kLinearDoc},
        {"lstm_step", as_c(call_step<kLstmStep>), METH_FASTCALL | METH_KEYWORDS, kLstmStepDoc},
        {"gru_step", as_c(call_step<kGruStep>), METH_FASTCALL | METH_KEYWORDS, kGruStepDoc},
        {"rnn_step", as_c(call_step<kRnnStep>), METH_FASTCALL | METH_KEYWORDS, kRnnStepDoc},
        {},
    };
    if (PyModule_AddFunctions(m.ptr(), functions) != 0) throw py::error_already_set();
}

}  // namespace fastrnn
