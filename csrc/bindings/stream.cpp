#include "stream.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "arguments.h"
#include "bindings.h"
#include "dispatch.h"
#include "gil.h"
#include "plan.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

constexpr char kStreamDoc[] =
    "Stream(family, option, weights, batch, tokens, outputs, /)\n--\n\n"
    "Steps of a stack of layers. `weights` is a list with (w_ih, w_hh, b_ih, b_hh, vectors, regularised) of each, "
    "which\n"
    "are packed here: what is written to them later has no effect. A step gives the first `outputs` of the last "
    "layer's\n"
    "units. See fastrnn.layers.";

constexpr Function kStreamStep{"stream", "step", "Stream.step"};
constexpr Signature kStreamStepSignature{"step", 2, 1, 2, {"x", "out"}};

constexpr char kStreamStepDoc[] =
    "step($self, /, x, out=None)\n--\n\n"
    "One step: y (B, H) of the last layer, a new array or `out`, from x (B, I), or tokens (B,). States move on.\n\n"
    "With an `out` nothing is allocated.";

struct StreamObject {
    PyObject_HEAD Stream stream;
};

Stream& stream_of(PyObject* self) { return reinterpret_cast<StreamObject*>(self)->stream; }

// What is the same in every step of a layer.
template <class Real>
ForwardArgs<Real> arguments(const Stream& stream, Stream::Layer& layer, bool tokens) {
    ForwardArgs<Real> args{};
    args.size = {1, stream.B, layer.I, stream.H, tokens ? stream.B : 0, nullptr, stream.P};
    for (int s = 0; s < info_of(stream.cell).states; ++s)
        args.state_0[s] = args.state_n[s] = data_of<Real>(layer.state[s]);
    args.regularisation = layer.regularising.view<Real>();
    args.workspace = static_cast<Real*>(layer.workspace.data());
    if (layer.packed) args.packed = static_cast<Real*>(layer.packed->memory.data());
    return args;
}

template <class Real>
std::vector<char> bytes_of(const Real* array, Index n) {
    const char* const first = reinterpret_cast<const char*>(array);
    return array ? std::vector<char>(first, first + static_cast<std::size_t>(n) * sizeof(Real)) : std::vector<char>();
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

template <class Real>
Stream::Layer make_layer(const Stream& stream, const Inputs& in, bool tokens) {
    const CellInfo& info = info_of(stream.cell);
    const Index B = stream.B, H = stream.H, rows = info.gates * H;
    Stream::Layer layer{};
    layer.I = in.size.I;
    layer.regularising = Regularising(in);
    for (int s = 0; s < info.states; ++s) {
        layer.state[s] = new_array(stream.single, {B, H});
        std::fill_n(data_of<Real>(layer.state[s]), B * H, Real{0});
    }
    layer.y = buffer<Real>(B * H);

    Copies copies;
    ForwardArgs<Real> args = arguments<Real>(stream, layer, tokens);
    args.w_ih = copies.data<Real>(in.w_ih);
    args.w_hh = copies.data<Real>(in.w_hh);
    args.b_ih = copies.data<Real>(in.b_ih);
    args.b_hh = copies.data<Real>(in.b_hh);
    args.vectors = copies.data<Real>(in.vectors);
    if (tokens) {
        // A token's column at one place.
        std::vector<Real> columns(static_cast<std::size_t>(rows * layer.I));
        for (Index row = 0; row < rows; ++row)
            for (Index i = 0; i < layer.I; ++i)
                columns[static_cast<std::size_t>(i * rows + row)] = args.w_ih[row * layer.I + i];
        layer.w_ih = bytes_of(columns.data(), rows * layer.I);
        layer.b_ih = bytes_of(args.b_ih, rows);
    }
    // No step yet: the weights are packed, and the states stay as they are.
    args.size.T = 0;
    const std::vector<std::int64_t> any(static_cast<std::size_t>(B), 0);
    args.tokens.id = any.data();
    if (B * H > 0 && !(tokens && layer.I == 0))
        layer.packed = run_forward(*stream.table, stream.cell, args, nullptr, nullptr, true);
    layer.workspace = workspace<Real>(stream, layer);
    return layer;
}

template <class Real>
void run_step(Stream& stream, const Real* x, Real* out) {
    for (std::size_t l = 0; l < stream.layers.size(); ++l) {
        Stream::Layer& layer = stream.layers[l];
        const bool first = l == 0, gives = l + 1 == stream.layers.size() && stream.outputs == stream.H;
        ForwardArgs<Real> args = arguments<Real>(stream, layer, first && stream.tokens);
        if (first && stream.tokens) {
            args.tokens = {stream.slots.data(), stream.tokens_at_hand.data()};
            args.w_ih = reinterpret_cast<const Real*>(layer.w_ih.data());
            args.transposed_w_ih = true;
            args.b_ih = layer.b_ih.empty() ? nullptr : reinterpret_cast<const Real*>(layer.b_ih.data());
        }
        args.x = x;
        args.turned = stream.turned;
        args.y = gives ? out : static_cast<Real*>(layer.y.data());
        run_forward(*stream.table, stream.cell, args, nullptr);
        x = args.y;
    }
    stream.turned = !stream.turned;
    if (stream.outputs == stream.H) return;
    for (Index b = 0; b < stream.B; ++b) std::copy_n(x + b * stream.H, stream.outputs, out + b * stream.outputs);
}

template <class Real>
PyObject* step(Stream& stream, PyObject* x, PyObject* out) {
    const Stream::Layer& first = stream.layers.front();
    Copies copies;
    const Real* dense = nullptr;
    if (stream.tokens) {
        check_tokens(kStreamStep, "x", x, stream.B, first.I, stream.tokens_at_hand.data());
    } else {
        check_floats(kStreamStep, "x", x, stream.single, "the stream", "(B, I)", {stream.B, first.I});
        dense = copies.data<Real>(x);
    }
    py::object result;
    if (!out || out == Py_None) {
        result = new_array(stream.single, {stream.B, stream.outputs});
    } else {
        check_floats(kStreamStep, "out", out, stream.single, "the stream", "(B, H)", {stream.B, stream.outputs});
        check_output(kStreamStep, "out", out);
        result = py::reinterpret_borrow<py::object>(out);
    }
    Real* const y = data_of<Real>(result);
    const Index bytes = stream.B * stream.outputs * static_cast<Index>(sizeof(Real));
    for (const Stream::Layer& layer : stream.layers)
        for (const py::object& state : layer.state)
            if (state && overlaps(state.ptr(), y, bytes))
                throw py::value_error(kStreamStep.name() +
                                      ": out is a state of the stream, expected an array apart from it");

    double flops = 0;
    for (const Stream::Layer& layer : stream.layers)
        flops += step_flops(info_of(stream.cell), {1, stream.B, layer.I, stream.H, 0, nullptr, stream.P});
    if (flops < kWorthReleasingGil)
        run_step(stream, dense, y);
    else
        without_gil([&] { run_step(stream, dense, y); });
    return result.release().ptr();
}

PyObject* step_stream(PyObject* self, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
    return with_python_errors([&] {
        PyObject* values[Signature::kMost] = {};
        kStreamStepSignature.parse(args, given, keywords, values);
        Stream& stream = stream_of(self);
        return stream.single ? step<float>(stream, values[0], values[1]) : step<double>(stream, values[0], values[1]);
    });
}

// --- creation

PyTypeObject* stream_type = nullptr;

py::object allocate(Stream&& stream) {
    StreamObject* const object = PyObject_New(StreamObject, stream_type);
    if (!object) throw py::error_already_set();
    new (&object->stream) Stream(std::move(stream));
    return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(object));
}

// Stream(family, option, weights, batch, tokens, outputs)
PyObject* new_stream(PyTypeObject*, PyObject* args, PyObject*) {
    return with_python_errors([&] {
        if (PyTuple_GET_SIZE(args) != 6) throw py::type_error("Stream() takes exactly 6 arguments");
        PyObject* const* const given = &PyTuple_GET_ITEM(args, 0);
        const Function function{find_family(given[0]), "step"};
        Stream stream{};
        stream.cell = choose_cell(function, given[1] == Py_None ? nullptr : given[1]);
        stream.B = py::handle(given[3]).cast<Index>();
        stream.tokens = check_bool(function, "tokens", given[4]);
        stream.table = &active_table();
        const py::list weights = py::reinterpret_borrow<py::object>(given[2]);
        if (stream.B < 0 || weights.empty()) throw py::value_error("Stream() needs a batch and a layer");
        const py::array_t<std::int64_t> rows(stream.B);  // the shape of an input, and its values do not matter
        for (const py::handle each : weights) {
            const py::tuple layer = py::reinterpret_borrow<py::object>(each);
            PyObject* values[Inputs::kArguments] = {rows.ptr()};
            for (std::size_t i = 0; i < 4 && i < layer.size(); ++i) values[Inputs::WIh + i] = layer[i].ptr();
            if (layer.size() > 4) values[Inputs::Vectors] = layer[4].ptr();
            if (layer.size() > 5) values[Inputs::Regularised] = layer[5].ptr();
            const Inputs inputs(function, stream.cell, values);
            const bool first = stream.layers.empty();
            if (first) stream.single = inputs.single, stream.H = inputs.size.H, stream.P = inputs.size.P;
            if (inputs.single != stream.single || inputs.size.H != stream.H || inputs.size.P != stream.P ||
                (!first && inputs.size.I != stream.H))
                throw py::value_error("Stream(): the layers do not fit each other");
            stream.layers.push_back(stream.single ? make_layer<float>(stream, inputs, first && stream.tokens)
                                                  : make_layer<double>(stream, inputs, first && stream.tokens));
        }
        stream.outputs = py::handle(given[5]).cast<Index>();
        if (stream.outputs < 0 || stream.outputs > stream.H)
            throw py::value_error("Stream(): outputs is not in 0 .. H");
        stream.slots.resize(static_cast<std::size_t>(stream.B));
        std::iota(stream.slots.begin(), stream.slots.end(), 0);
        stream.tokens_at_hand.resize(static_cast<std::size_t>(stream.B));
        return allocate(std::move(stream)).release().ptr();
    });
}

PyObject* copy_stream(PyObject* self, PyObject*) {
    return with_python_errors([&] {
        const Stream& from = stream_of(self);
        const std::size_t width = from.single ? sizeof(float) : sizeof(double);
        const std::size_t bytes = static_cast<std::size_t>(from.B * from.H) * width;
        Stream stream{from.cell, from.single, from.tokens,        from.B, from.H, from.P, from.outputs, from.table,
                      {},        from.slots,  from.tokens_at_hand};
        for (const Stream::Layer& layer : from.layers) {
            Stream::Layer copy{layer.packed,       layer.I, layer.w_ih,    layer.b_ih,
                               layer.regularising, {},      Buffer(bytes), {}};
            for (int s = 0; s < info_of(from.cell).states; ++s) {
                copy.state[s] = new_array(from.single, {from.B, from.H});
                std::memcpy(data_of<char>(copy.state[s]), data_of<char>(layer.state[s]), bytes);
            }
            copy.workspace = from.single ? workspace<float>(stream, copy) : workspace<double>(stream, copy);
            stream.layers.push_back(std::move(copy));
        }
        return allocate(std::move(stream)).release().ptr();
    });
}

PyObject* states(PyObject* self, void*) {
    return with_python_errors([&] {
        const Stream& stream = stream_of(self);
        py::tuple layers(stream.layers.size());
        const int states = info_of(stream.cell).states;
        for (std::size_t l = 0; l < stream.layers.size(); ++l) {
            py::tuple layer(states);
            for (int s = 0; s < states; ++s) layer[static_cast<std::size_t>(s)] = stream.layers[l].state[s];
            layers[l] = std::move(layer);
        }
        return layers.release().ptr();
    });
}

void deallocate_stream(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    stream_of(self).~Stream();
    PyObject_Free(self);
    Py_DECREF(type);
}

}  // namespace

void bind_stream(py::module_& m) {
    static PyMethodDef methods[] = {{"step", as_c(step_stream), METH_FASTCALL | METH_KEYWORDS, kStreamStepDoc},
                                    {"copy", copy_stream, METH_NOARGS,
                                     "copy($self, /)\n--\n\nA stream with the same weights, and states of its own."},
                                    {}};
    static PyGetSetDef properties[] = {
        {"states", states, nullptr, "Of each layer h, or h and c: (B, H) each, where the next step finds them.",
         nullptr},
        {}};
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
