#include "stream.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "arguments.h"
#include "bindings.h"
#include "dispatch.h"
#include "format_weights.h"
#include "gil.h"
#include "plan.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

constexpr char kStreamDoc[] =
    "Stream(cell, options, weights, batch, tokens, outputs, /)\n--\n\n"
    "Steps of a stack of layers. `weights` is a list with (w_ih, w_hh, b_ih, b_hh, vectors, regularised, state_0, "
    "kept)\n"
    "of each, which are packed here: what is written to them later has no effect. `kept` is None, or FormatWeights, "
    "and\n"
    "w_ih and w_hh have shapes alone. `state_0` is None, or what a row begins with: (H,) of each state. A step gives\n"
    "the first `outputs` of the last layer's units. See fastrnn.layers.";

constexpr Function kStream{"stream", "make", "Stream"};
constexpr Function kStreamStep{"stream", "step", "Stream.step"};
constexpr Function kStreamState{"stream", "state", "Stream.state"};
constexpr Function kStreamReset{"stream", "reset", "Stream.reset"};
constexpr Signature kStreamStepSignature{"step", 2, 1, 2, {"x", "out"}};

constexpr char kStreamStepDoc[] =
    "step($self, /, x, out=None)\n--\n\n"
    "One step: y (B, H) of the last layer, a new array or `out`, from x (B, I), or tokens (B,). States move on.\n\n"
    "With an `out` nothing is allocated. It may be x.";

constexpr char kStreamStateDoc[] =
    "(h,), or (h, c): (L, B, units) each, a copy. Assign such a tuple to set it; None is what a row begins with.";

struct StreamObject {
    PyObject_HEAD Stream stream;
    Busy busy;
};

// The stream, for as long as this lives: a step lets other Python threads run, and none of them may see or change it.
class Taken {
public:
    Taken(PyObject* self, const Function& function) : object_(*reinterpret_cast<StreamObject*>(self)) {
        if (!object_.busy.take())
            throw std::runtime_error(function.name() +
                                     ": another thread is in a step of this stream: give each its own, stream.copy()");
    }
    ~Taken() { object_.busy.give_back(); }
    Taken(const Taken&) = delete;
    Taken& operator=(const Taken&) = delete;

    Stream& operator*() const { return object_.stream; }

private:
    StreamObject& object_;
};

int states_of(const Stream& stream) { return info_of(stream.cell).states; }
std::size_t real_bytes(const Stream& stream) { return stream.single ? sizeof(float) : sizeof(double); }
std::size_t state_bytes(const Stream& stream) {
    return static_cast<std::size_t>(stream.B * stream.H) * real_bytes(stream);
}
// Of the units of state s, those that there are.
Index units(const Stream& stream, int s) { return s == kH ? stream.outputs : stream.H; }

// What is the same in every step of a layer.
template <class Real>
ForwardArgs<Real> arguments(const Stream& stream, Stream::Layer& layer, bool tokens) {
    ForwardArgs<Real> args{};
    args.size = {1, stream.B, layer.I, stream.H, tokens ? stream.B : 0, nullptr, stream.P};
    args.format = stream.format;
    for (int s = 0; s < states_of(stream); ++s)
        args.state_0[s] = args.state_n[s] = static_cast<Real*>(layer.state[s].data());
    args.options = stream.options.view<Real>();
    args.regularisation = layer.regularising.view<Real>();
    args.workspace = static_cast<Real*>(layer.workspace.data());
    if (layer.packed) args.packed = static_cast<Real*>(layer.packed->memory.data());
    return args;
}

template <class Real>
Buffer buffer(Index n) {
    return Buffer(static_cast<std::size_t>(n) * sizeof(Real));
}

template <class Real>
Buffer workspace(const Stream& stream, Stream::Layer& layer) {
    ForwardArgs<Real> args = arguments<Real>(stream, layer, stream.tokens && stream.layers.empty());
    args.y = static_cast<Real*>(layer.y.data());
    return buffer<Real>(forward_workspace(*stream.table, stream.cell, args));
}

// W_ih (rows, I) as (I, rows): a token's column at one place.
template <class Real>
std::vector<char> columns_of(const Real* w_ih, Index rows, Index I) {
    std::vector<char> memory(static_cast<std::size_t>(rows * I) * sizeof(Real));
    Real* const columns = reinterpret_cast<Real*>(memory.data());
    constexpr Index at_once = 16;  // what a line of memory has of a row
    in_parts(I, std::max(at_once, kNumbersAtOnce / std::max<Index>(1, rows)), [&](Index begin, Index end) {
        for (Index first = begin; first < end; first += at_once)
            for (Index row = 0; row < rows; ++row)
                for (Index i = first; i < std::min(first + at_once, end); ++i)
                    columns[i * rows + row] = w_ih[row * I + i];
        return true;
    });
    return memory;
}

// Row b of state s as it begins.
void begin_row(const Stream& stream, const Stream::Layer& layer, int s, std::size_t b) {
    const std::size_t width = static_cast<std::size_t>(stream.H) * real_bytes(stream);
    char* const row = static_cast<char*>(layer.state[s].data()) + b * width;
    if (layer.state_0[s].empty())
        std::memset(row, 0, width);
    else
        std::memcpy(row, layer.state_0[s].data(), width);
}

// What the rows of each state begin with, of a tuple of arrays (H,) or None.
template <class Real>
void take_initial(const Stream& stream, PyObject* given, Stream::Layer& layer) {
    const int states = states_of(stream);
    if (given != Py_None && (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) != states))
        wrong_type(kStream.name(), "state_0", given, "a tuple of " + std::to_string(states) + ", or None");
    Copies copies;
    for (int s = 0; given != Py_None && s < states; ++s) {
        PyObject* const array = PyTuple_GET_ITEM(given, s);
        check_floats(kStream, "state_0", array, stream.single, "the weights", "(H,)", {stream.H});
        const char* const from = reinterpret_cast<const char*>(copies.data<Real>(array));
        layer.state_0[s].assign(from, from + static_cast<std::size_t>(stream.H) * sizeof(Real));
    }
}

template <class Real>
Stream::Layer make_layer(const Stream& stream, const Inputs& in, bool tokens, PyObject* state_0,
                         FormatWeights* in_format) {
    const CellInfo& info = info_of(stream.cell);
    const Index B = stream.B, H = stream.H, rows = info.gates * H;
    Stream::Layer layer{};
    layer.I = in.size.I;
    layer.regularising = Regularising(in);
    take_initial<Real>(stream, state_0, layer);
    for (int s = 0; s < info.states; ++s) {
        layer.state[s] = buffer<Real>(B * H);
        for (Index b = 0; b < B; ++b) begin_row(stream, layer, s, static_cast<std::size_t>(b));
    }
    layer.y = buffer<Real>(B * H);
    if (in_format) {
        layer.packed = packed_for(*stream.table, in, *in_format);
        layer.workspace = workspace<Real>(stream, layer);
        return layer;
    }

    Copies copies;
    ForwardArgs<Real> args = arguments<Real>(stream, layer, tokens);
    args.w_ih = copies.data<Real>(in.w_ih);
    args.w_hh = copies.data<Real>(in.w_hh);
    args.b_ih = copies.data<Real>(in.b_ih);
    args.b_hh = copies.data<Real>(in.b_hh);
    args.vectors = copies.data<Real>(in.vectors);
    if (tokens) {
        layer.w_ih = columns_of(args.w_ih, rows, layer.I);
        const char* const bias = reinterpret_cast<const char*>(args.b_ih);
        if (bias) layer.b_ih.assign(bias, bias + static_cast<std::size_t>(rows) * sizeof(Real));
    }
    // No step yet: the weights are packed, and the states stay as they are.
    args.size.T = 0;
    const std::vector<std::int64_t> any(static_cast<std::size_t>(tokens ? B : 0), 0);
    args.tokens.id = any.data();
    if (B * H > 0 && !(tokens && layer.I == 0)) {
        const StopHook stop = stop_hook(step_flops(info, {1, 1, layer.I, H, 0, nullptr, stream.P}));
        without_gil([&] { layer.packed = pack(*stream.table, stream.cell, args, stop); });
    }
    layer.workspace = workspace<Real>(stream, layer);
    return layer;
}

// The states after a step that may be stopped: until it is through, those before it hold.
using NextStates = std::vector<Buffer>;

template <class Real>
void run_step(Stream& stream, const Real* x, Real* out, NextStates& next, StopHook stop) {
    std::size_t place = 0;
    for (std::size_t l = 0; l < stream.layers.size(); ++l) {
        Stream::Layer& layer = stream.layers[l];
        const bool first = l == 0, gives = l + 1 == stream.layers.size() && stream.outputs == stream.H;
        ForwardArgs<Real> args = arguments<Real>(stream, layer, first && stream.tokens);
        if (first && stream.tokens) {
            args.tokens = {stream.slots.data(), stream.tokens_at_hand.data()};
            if (!layer.w_ih.empty()) args.w_ih = reinterpret_cast<const Real*>(layer.w_ih.data());
            args.transposed_w_ih = true;
            args.b_ih = layer.b_ih.empty() ? nullptr : reinterpret_cast<const Real*>(layer.b_ih.data());
        }
        if (!next.empty())
            for (int s = 0; s < states_of(stream); ++s) args.state_n[s] = static_cast<Real*>(next[place++].data());
        args.x = x;
        args.turned = stream.turned;
        args.y = gives ? out : static_cast<Real*>(layer.y.data());
        run_forward(*stream.table, stream.cell, args, stop);
        x = args.y;
    }
    place = 0;
    if (!next.empty())
        for (Stream::Layer& layer : stream.layers)
            for (int s = 0; s < states_of(stream); ++s) std::swap(layer.state[s], next[place++]);
    stream.turned = !stream.turned;
    if (stream.outputs == stream.H) return;
    for (Index b = 0; b < stream.B; ++b) std::copy_n(x + b * stream.H, stream.outputs, out + b * stream.outputs);
}

template <class Real>
PyObject* step(Stream& stream, PyObject* x, PyObject* out) {
    const Stream::Layer& first = stream.layers.front();
    if (stream.tokens)
        check_tokens(kStreamStep, "x", x, stream.B, first.I, stream.tokens_at_hand.data());
    else
        check_floats(kStreamStep, "x", x, stream.single, "the stream", "(B, I)", {stream.B, first.I});
    py::object result;
    bool overlap = false;
    if (!out || out == Py_None) {
        result = new_array(stream.single, {stream.B, stream.outputs});
    } else {
        check_floats(kStreamStep, "out", out, stream.single, "the stream", "(B, H)", {stream.B, stream.outputs});
        check_output(kStreamStep, "out", out);
        overlap = !stream.tokens && overlaps(x, out);
        result = py::reinterpret_borrow<py::object>(out);
    }
    Copies copies;
    const Real* const dense = stream.tokens ? nullptr : overlap ? copies.copy<Real>(x) : copies.data<Real>(x);
    Real* const y = data_of<Real>(result);
    const StopHook stop = stop_hook(stream.flops);
    NextStates next;
    if (stop)
        for (std::size_t n = stream.layers.size() * static_cast<std::size_t>(states_of(stream)); n > 0; --n)
            next.emplace_back(state_bytes(stream));
    if (stream.flops < kWorthReleasingGil)
        run_step(stream, dense, y, next, stop);
    else
        without_gil([&] { run_step(stream, dense, y, next, stop); });
    return result.release().ptr();
}

PyObject* step_stream(PyObject* self, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
    return with_python_errors([&] {
        PyObject* values[Signature::kMost] = {};
        kStreamStepSignature.parse(args, given, keywords, values);
        const Taken stream(self, kStreamStep);
        return (*stream).single ? step<float>(*stream, values[0], values[1])
                                : step<double>(*stream, values[0], values[1]);
    });
}

// --- states

PyObject* get_state(PyObject* self, void*) {
    return with_python_errors([&] {
        const Taken taken(self, kStreamState);
        const Stream& stream = *taken;
        py::tuple states(states_of(stream));
        for (int s = 0; s < states_of(stream); ++s) {
            const py::object array =
                new_array(stream.single, {static_cast<Index>(stream.layers.size()), stream.B, units(stream, s)});
            const std::size_t width = static_cast<std::size_t>(units(stream, s)) * real_bytes(stream),
                              pitch = static_cast<std::size_t>(stream.H) * real_bytes(stream);
            char* to = data_of<char>(array);
            for (const Stream::Layer& layer : stream.layers) {
                const char* from = static_cast<const char*>(layer.state[s].data());
                for (Index b = 0; b < stream.B; ++b, to += width, from += pitch) std::memcpy(to, from, width);
            }
            states[static_cast<std::size_t>(s)] = array;
        }
        return states.release().ptr();
    });
}

int set_state(PyObject* self, PyObject* state, void*) {
    PyObject* const done = with_python_errors([&] {
        const Taken taken(self, kStreamState);
        const Stream& stream = *taken;
        const int count = states_of(stream);
        if (!state || !PyTuple_Check(state) || PyTuple_GET_SIZE(state) != count)
            wrong_type(kStreamState.name(), "state", state, "a tuple of " + std::to_string(count));
        const char* given[kMaxStates] = {};
        Copies copies;
        for (int s = 0; s < count; ++s) {
            PyObject* const array = PyTuple_GET_ITEM(state, s);
            if (array == Py_None) continue;
            check_floats(kStreamState, s == kH ? "h" : "c", array, stream.single, "the stream",
                         s == kH && stream.outputs != stream.H ? "(L, B, P)" : "(L, B, H)",
                         {static_cast<Index>(stream.layers.size()), stream.B, units(stream, s)});
            given[s] = static_cast<const char*>(stream.single ? static_cast<const void*>(copies.data<float>(array))
                                                              : copies.data<double>(array));
        }
        for (int s = 0; s < count; ++s) {
            const std::size_t width = static_cast<std::size_t>(units(stream, s)) * real_bytes(stream),
                              pitch = static_cast<std::size_t>(stream.H) * real_bytes(stream);
            for (const Stream::Layer& layer : stream.layers) {
                char* to = static_cast<char*>(layer.state[s].data());
                if (given[s]) std::memset(to, 0, state_bytes(stream));
                for (Index b = 0; b < stream.B; ++b, to += pitch) {
                    if (given[s])
                        std::memcpy(to, std::exchange(given[s], given[s] + width), width);
                    else
                        begin_row(stream, layer, s, static_cast<std::size_t>(b));
                }
            }
        }
        return Py_None;
    });
    return done ? 0 : -1;
}

PyObject* reset_stream(PyObject* self, PyObject* rows) {
    return with_python_errors([&] {
        const Taken taken(self, kStreamReset);
        const Stream& stream = *taken;
        std::vector<char> resets(static_cast<std::size_t>(stream.B));
        check_flags(kStreamReset, "rows", rows, stream.B, resets.data());
        for (const Stream::Layer& layer : stream.layers)
            for (int s = 0; s < states_of(stream); ++s)
                for (std::size_t b = 0; b < resets.size(); ++b)
                    if (resets[b]) begin_row(stream, layer, s, b);
        return py::none().release().ptr();
    });
}

// --- creation

PyTypeObject* stream_type = nullptr;

py::object allocate(Stream&& stream) {
    StreamObject* const object = PyObject_New(StreamObject, stream_type);
    if (!object) throw py::error_already_set();
    new (&object->stream) Stream(std::move(stream));
    new (&object->busy) Busy;
    return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(object));
}

// Stream(cell, options, weights, batch, tokens, outputs)
PyObject* new_stream(PyTypeObject*, PyObject* args, PyObject* keywords) {
    return with_python_errors([&] {
        expect_positional("Stream", args, keywords, 6);
        PyObject* const* const given = &PyTuple_GET_ITEM(args, 0);
        Stream stream{};
        stream.cell = find_cell(given[0]);
        const Function function{info_of(stream.cell).family, "stream"};
        stream.options = check_options(kStream, stream.cell, given[1]);
        if (!PyList_Check(given[2])) wrong_type(kStream.name(), "weights", given[2], "a list");
        // Their own list: while packing lets other threads run, they may change the caller's.
        const py::tuple weights = py::reinterpret_steal<py::object>(PyList_AsTuple(given[2]));
        if (weights.empty()) throw py::value_error("Stream: weights is empty, expected those of a layer at least");
        stream.B = check_size(kStream, "batch", given[3]);
        stream.tokens = check_bool(kStream, "tokens", given[4]);
        stream.outputs = check_size(kStream, "outputs", given[5]);
        stream.table = &active_table();
        const py::array_t<std::int64_t> rows(stream.B);  // the shape of an input, and its values do not matter
        for (const py::handle layer : weights) {
            constexpr int count = 8;
            if (!PyTuple_Check(layer.ptr()) || PyTuple_GET_SIZE(layer.ptr()) != count)
                wrong_type(kStream.name(), "weights", layer.ptr(),
                           "tuples (w_ih, w_hh, b_ih, b_hh, vectors, regularised, state_0, kept)");
            PyObject* values[Inputs::kArguments] = {rows.ptr()};
            for (int i = 0; i < 4; ++i) values[Inputs::WIh + i] = PyTuple_GET_ITEM(layer.ptr(), i);
            values[Inputs::Vectors] = PyTuple_GET_ITEM(layer.ptr(), 4);
            values[Inputs::Regularised] = PyTuple_GET_ITEM(layer.ptr(), 5);
            const Inputs inputs({function.family, "step"}, stream.cell, values);
            const bool first = stream.layers.empty();
            if (first) stream.single = inputs.single, stream.H = inputs.size.H, stream.P = inputs.size.P;
            if (inputs.single != stream.single || inputs.size.H != stream.H || inputs.size.P != stream.P ||
                (!first && inputs.size.I != stream.H))
                throw py::value_error("Stream: the layers do not fit each other");
            PyObject* const kept = PyTuple_GET_ITEM(layer.ptr(), 7);
            FormatWeights* const in_format = format_weights_in(kept);
            if (!in_format && kept != Py_None) wrong_type(kStream.name(), "kept", kept, "FormatWeights or None");
            const WeightFormat format = in_format ? in_format->packed()->layout.format : WeightFormat::plain;
            if (first) stream.format = format;
            if (format != stream.format) throw py::value_error("Stream: the layers have weights of several formats");
            const bool takes_tokens = first && stream.tokens;
            PyObject* const state_0 = PyTuple_GET_ITEM(layer.ptr(), 6);
            stream.layers.push_back(stream.single
                                        ? make_layer<float>(stream, inputs, takes_tokens, state_0, in_format)
                                        : make_layer<double>(stream, inputs, takes_tokens, state_0, in_format));
            stream.flops +=
                step_flops(info_of(stream.cell), {1, stream.B, inputs.size.I, stream.H, 0, nullptr, stream.P});
        }
        if (stream.outputs > stream.H)
            throw py::value_error("Stream: outputs is " + std::to_string(stream.outputs) +
                                  ", expected at most H = " + std::to_string(stream.H));
        stream.slots.resize(static_cast<std::size_t>(stream.B));
        std::iota(stream.slots.begin(), stream.slots.end(), 0);
        stream.tokens_at_hand.resize(static_cast<std::size_t>(stream.B));
        return allocate(std::move(stream)).release().ptr();
    });
}

PyObject* copy_stream(PyObject* self, PyObject*) {
    return with_python_errors([&] {
        const Taken taken(self, {"stream", "copy", "Stream.copy"});
        const Stream& from = *taken;
        Stream stream{from.cell,  from.single,  from.format, from.tokens, from.B,     from.H,
                      from.P,     from.outputs, from.table,  {},          from.slots, from.tokens_at_hand,
                      from.flops, from.options, from.turned};
        for (const Stream::Layer& layer : from.layers) {
            Stream::Layer copy{};
            copy.packed = layer.packed, copy.I = layer.I, copy.w_ih = layer.w_ih, copy.b_ih = layer.b_ih;
            copy.regularising = layer.regularising;
            for (int s = 0; s < states_of(from); ++s) {
                copy.state[s] = Buffer(state_bytes(from));
                std::memcpy(copy.state[s].data(), layer.state[s].data(), state_bytes(from));
                copy.state_0[s] = layer.state_0[s];
            }
            copy.y = Buffer(state_bytes(from));
            copy.workspace = from.single ? workspace<float>(stream, copy) : workspace<double>(stream, copy);
            stream.layers.push_back(std::move(copy));
        }
        return allocate(std::move(stream)).release().ptr();
    });
}

void deallocate_stream(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    reinterpret_cast<StreamObject*>(self)->stream.~Stream();
    PyObject_Free(self);
    Py_DECREF(type);
}

}  // namespace

void bind_stream(py::module_& m) {
    static PyMethodDef methods[] = {
        {"step", as_c(step_stream), METH_FASTCALL | METH_KEYWORDS, kStreamStepDoc},
        {"reset", reset_stream, METH_O, "reset($self, rows, /)\n--\n\nHave the rows (B,) that are True begin anew."},
        {"copy", copy_stream, METH_NOARGS,
         "copy($self, /)\n--\n\nA stream with the same weights, and states of its own."},
        {}};
    static PyGetSetDef properties[] = {{"state", get_state, set_state, kStreamStateDoc, nullptr}, {}};
    static PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>(kStreamDoc)},
                                  {Py_tp_new, reinterpret_cast<void*>(new_stream)},
                                  {Py_tp_dealloc, reinterpret_cast<void*>(deallocate_stream)},
                                  {Py_tp_methods, methods},
                                  {Py_tp_getset, properties},
                                  {0, nullptr}};
    static PyType_Spec spec = {"fastrnn._core.Stream", sizeof(StreamObject), 0, Py_TPFLAGS_DEFAULT, slots};
    PyObject* const type = PyType_FromSpec(&spec);
    if (!type) throw py::error_already_set();
    stream_type = reinterpret_cast<PyTypeObject*>(type);  // keeps this reference for the life of the process
    m.add_object("Stream", type);
}

}  // namespace fastrnn
