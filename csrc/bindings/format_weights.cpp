#include "format_weights.h"

#include <new>

#include "arguments.h"
#include "bindings.h"
#include "dispatch.h"
#include "gil.h"
#include "plan.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

constexpr char kFormatDoc[] =
    "FormatWeights(cell, kept_as, w_ih, ih_scales, w_hh, hh_scales, b_ih, b_hh, vectors, /)\n--\n\n"
    "The weights of a layer in another format than 'float32', packed, for calls and streams. W_ih and W_hh are of\n"
    "int8, with the scale of each row, or the bits of bfloat16 in uint16, without; they are kept bit for bit.";

constexpr char kUnpackDoc[] =
    "unpack($self, hidden, /)\n--\n\n"
    "Return w_ih, or w_hh, as it was given, in a new array; None where there is none.";

struct FormatObject {
    PyObject_HEAD FormatWeights weights;
};

PyTypeObject* format_type = nullptr;

FormatWeights& weights_of(PyObject* self) { return reinterpret_cast<FormatObject*>(self)->weights; }

// Of packing such weights.
StopHook stop_hook_of(Cell cell, const Sizes& size) {
    return stop_hook(step_flops(info_of(cell), {1, 1, size.I, size.H, 0, nullptr, size.P}));
}

PyObject* new_format(PyTypeObject*, PyObject* args, PyObject* keywords) {
    return with_python_errors([&] {
        constexpr int first = 2;
        constexpr Function function{"layer", "weights", "FormatWeights"};
        expect_positional("FormatWeights", args, keywords, first + FormatInputs::kArguments);
        PyObject* const* const given = &PyTuple_GET_ITEM(args, 0);
        const Cell cell = find_cell(given[0]);
        const WeightFormat format = find_format(function, given[1]);
        if (format == WeightFormat::plain)
            throw py::value_error("FormatWeights: format is 'float32', expected one of fewer bits");
        const FormatInputs in(function, cell, format, given + first);
        Copies copies;
        ForwardArgs<float> weights{};
        weights.size = in.size;
        weights.format = format;
        for (int hidden = 0; hidden < 2; ++hidden)
            weights.in_format[hidden] = {copies.data<char>(in.numbers[hidden]), copies.data<float>(in.scales[hidden])};
        weights.b_ih = copies.data<float>(in.b_ih);
        weights.b_hh = copies.data<float>(in.b_hh);
        weights.vectors = copies.data<float>(in.vectors);
        const KernelTable& table = active_table();
        const StopHook stop = stop_hook_of(cell, in.size);
        std::shared_ptr<const Packed> packed;
        without_gil([&] { packed = pack(table, cell, weights, stop); });
        FormatObject* const object = PyObject_New(FormatObject, format_type);
        if (!object) throw py::error_already_set();
        new (&object->weights) FormatWeights(std::move(packed));
        return reinterpret_cast<PyObject*>(object);
    });
}

void deallocate_format(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    weights_of(self).~FormatWeights();
    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject* unpack_format(PyObject* self, PyObject* hidden) {
    return with_python_errors([&] {
        const bool is_hidden = check_bool({"layer", "weights", "FormatWeights.unpack"}, "hidden", hidden);
        const std::shared_ptr<const Packed> packed = weights_of(self).packed();
        const PackedLayout& layout = packed->layout;
        const CellInfo& info = info_of(layout.cell);
        if (is_hidden && !info.recurrent) return py::none().release().ptr();
        const auto [rows, numbers] = matrix_size(layout, is_hidden);
        py::object array = is_hidden && projects(info)
                               ? new_numbers(layout.format, {numbers})
                               : new_numbers(layout.format, {rows, is_hidden ? layout.H : layout.I});
        std::vector<float> scales(static_cast<std::size_t>(rows));
        UnpackedMatrix matrix[2] = {};
        matrix[is_hidden] = {data_of<char>(array), scales.data()};
        const StopHook stop = stop_hook_of(layout.cell, {1, 1, layout.I, layout.H, 0, nullptr, layout.P});
        without_gil([&] { unpack(*packed, matrix, stop); });
        return array.release().ptr();
    });
}

PyObject* bytes_of_format(PyObject* self, void*) {
    return PyLong_FromSize_t(weights_of(self).packed()->memory.capacity());
}

}  // namespace

FormatWeights* format_weights_in(PyObject* object) {
    return Py_TYPE(object) == format_type ? &weights_of(object) : nullptr;
}

std::shared_ptr<const Packed> packed_for(const KernelTable& table, const Inputs& in, FormatWeights& weights) {
    std::shared_ptr<const Packed> packed = weights.packed();
    const PackedLayout& layout = packed->layout;
    if (!in.single) throw py::value_error(in.function.name() + ": weights of fewer bits than 32 are for x of float32");
    if (layout.cell != in.cell)
        throw py::value_error(in.function.name() + ": the weights that are kept are those of " +
                              info_of(layout.cell).name + ", expected " + info_of(in.cell).name);
    if (layout.I != in.size.I || layout.H != in.size.H || layout.P != in.size.P)
        throw py::value_error(in.function.name() + ": w_ih and w_hh have other shapes than the weights that are kept");
    if (layout.table == &table) return packed;
    Copies copies;
    ForwardArgs<float> others{};
    others.b_ih = copies.data<float>(in.b_ih);
    others.b_hh = copies.data<float>(in.b_hh);
    others.vectors = copies.data<float>(in.vectors);
    const StopHook stop = stop_hook_of(in.cell, in.size);
    without_gil([&] { packed = pack_anew(*packed, table, others, stop); });
    weights.keep(packed);
    return packed;
}

void bind_format_weights(py::module_& m) {
    static PyMethodDef methods[] = {{"unpack", unpack_format, METH_O, kUnpackDoc}, {}};
    static PyGetSetDef properties[] = {{"nbytes", bytes_of_format, nullptr, "Bytes of what is packed.", nullptr}, {}};
    static PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>(kFormatDoc)},
                                  {Py_tp_methods, methods},
                                  {Py_tp_getset, properties},
                                  {Py_tp_new, reinterpret_cast<void*>(new_format)},
                                  {Py_tp_dealloc, reinterpret_cast<void*>(deallocate_format)},
                                  {0, nullptr}};
    static PyType_Spec spec = {"fastrnn._core.FormatWeights", sizeof(FormatObject), 0, Py_TPFLAGS_DEFAULT, slots};
    PyObject* const type = PyType_FromSpec(&spec);
    if (!type) throw py::error_already_set();
    format_type = reinterpret_cast<PyTypeObject*>(type);  // keeps this reference for the life of the process
    m.add_object("FormatWeights", type);
}

}  // namespace fastrnn
