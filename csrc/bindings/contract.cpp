#include "contract.h"

#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>

#include "buffer.h"
#include "run.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

using Api = py::detail::npy_api;

// Not kept in a static of ours: loading it imports NumPy, which may hand the GIL to a thread that then waits for the
// static.
const Api& api() { return Api::get(); }

const py::detail::PyArray_Proxy& fields(PyObject* array) { return *py::detail::array_proxy(array); }
const py::detail::PyArrayDescr_Proxy& dtype(PyObject* array) {
    return *py::detail::array_descriptor_proxy(fields(array).descr);
}

bool native(PyObject* array) {
    const std::uint16_t one = 1;
    char first;
    std::memcpy(&first, &one, 1);
    const char order = dtype(array).byteorder;
    return order == '=' || order == '|' || order == (first ? '<' : '>');
}

bool is_none(PyObject* value) { return !value || value == Py_None; }
bool is_array(PyObject* value) { return api().PyArray_Check_(value); }
bool is_float(PyObject* array, bool single) {
    return dtype(array).type_num == (single ? Api::NPY_FLOAT_ : Api::NPY_DOUBLE_) && native(array);
}
bool is_integer(PyObject* array) {
    return dtype(array).type_num >= Api::NPY_BYTE_ && dtype(array).type_num <= Api::NPY_ULONGLONG_ && native(array);
}

const char* dtype_name(bool single) { return single ? "float32" : "float64"; }

// --- what was got and what was expected, in words

std::string words(const std::vector<Index>& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

std::vector<Index> shape_of(PyObject* array) {
    return {fields(array).dimensions, fields(array).dimensions + fields(array).nd};
}

std::string got(PyObject* value) {
    if (!value || value == Py_None) return "is None";
    if (is_array(value)) {
        std::string name = py::str(py::handle(fields(value).descr)).cast<std::string>();
        return "has dtype " + name + (native(value) ? "" : " (not in this machine's byte order)");
    }
    return std::string("is a ") + Py_TYPE(value)->tp_name;
}

// A shape in letters, with the number of gates in the place of G.
std::string legend(const char* letters, int gates) {
    std::string text = letters;
    const std::size_t at = text.find("G*");
    if (at != std::string::npos) text.replace(at, 2, gates == 1 ? "" : std::to_string(gates) + "*");
    return text;
}

// The checks of one call.
class Checks {
public:
    Checks(const Function& function, const CellInfo& cell) : function_(function), cell_(cell) {}

    [[noreturn]] void wrong_type(const char* argument, PyObject* value, const std::string& expected) const {
        fastrnn::wrong_type(function_.name(), argument, value, expected);
    }

    [[noreturn]] void wrong_value(const char* argument, const std::string& problem) const {
        throw py::value_error(function_.name() + ": " + argument + " " + problem);
    }

    // An array of this dtype, which is that of `reference`.
    void floats(const char* argument, PyObject* value, bool single, const char* reference) const {
        if (value && is_array(value) && is_float(value, single)) return;
        wrong_type(argument, value, std::string("a NumPy array of ") + dtype_name(single) + ", as " + reference);
    }

    // An array of either dtype; whether it is float32.
    bool any_floats(const char* argument, PyObject* value) const {
        const bool array = value && is_array(value), single = array && is_float(value, true);
        if (!single && !(array && is_float(value, false)))
            wrong_type(argument, value, "a NumPy array of float32 or float64");
        return single;
    }

    void shape(const char* argument, PyObject* array, const char* letters,
               std::initializer_list<Index> expected) const {
        if (fields(array).nd == static_cast<int>(expected.size()) &&
            std::equal(expected.begin(), expected.end(), fields(array).dimensions))
            return;
        wrong_value(argument, "has shape " + words(shape_of(array)) + ", expected " + legend(letters, cell_.gates) +
                                  " = " + words(expected));
    }

    // Where sizes are about to be taken from the shape.
    void axes(const char* argument, PyObject* array, const char* letters, int expected) const {
        if (fields(array).nd == expected) return;
        wrong_value(argument, "has shape " + words(shape_of(array)) + ", expected " + legend(letters, cell_.gates));
    }

    // Null for None.
    PyObject* optional(const char* argument, PyObject* value, bool single, const char* reference, const char* letters,
                       std::initializer_list<Index> expected) const {
        if (is_none(value)) return nullptr;
        floats(argument, value, single, reference);
        shape(argument, value, letters, expected);
        return value;
    }

private:
    const Function& function_;
    const CellInfo& cell_;
};

// --- tokens

// Calls use(row, column, value) for each element; a vector is one row. T x B and int8 .. uint64.
template <class Integer, class Use>
void for_each(PyObject* array, const Use& use) {
    const auto& a = fields(array);
    const bool matrix = a.nd == 2;
    const Index rows = matrix ? a.dimensions[0] : 1, columns = a.dimensions[matrix ? 1 : 0];
    const Index row_stride = matrix ? a.strides[0] : 0, stride = a.strides[matrix ? 1 : 0];
    for (Index i = 0; i < rows; ++i) {
        for (Index j = 0; j < columns; ++j) {
            Integer value;
            std::memcpy(&value, a.data + i * row_stride + j * stride, sizeof value);
            use(i, j, value);
        }
    }
}

template <class Use>
void for_each_token(const Function& function, PyObject* x, Index I, const Use& use) {
    const auto check = [&](Index i, Index j, auto value) {
        using Integer = decltype(value);
        bool inside = static_cast<std::uint64_t>(value) < static_cast<std::uint64_t>(I);
        if constexpr (std::is_signed_v<Integer>) inside = inside && value >= 0;
        if (!inside) {
            const bool step = fields(x).nd == 1;
            const std::string place = (step ? "" : std::to_string(i) + ", ") + std::to_string(j);
            const std::string range = I == 0 ? "none, as I is 0" : "0 to I-1 = " + std::to_string(I - 1);
            throw py::value_error(function.name() + ": x[" + place + "] is token " + std::to_string(value) +
                                  ", expected " + range);
        }
        use(static_cast<std::int64_t>(value));
    };
    switch (dtype(x).type_num) {
        case Api::NPY_BYTE_: return for_each<signed char>(x, check);
        case Api::NPY_UBYTE_: return for_each<unsigned char>(x, check);
        case Api::NPY_SHORT_: return for_each<short>(x, check);
        case Api::NPY_USHORT_: return for_each<unsigned short>(x, check);
        case Api::NPY_INT_: return for_each<int>(x, check);
        case Api::NPY_UINT_: return for_each<unsigned>(x, check);
        case Api::NPY_LONG_: return for_each<long>(x, check);
        case Api::NPY_ULONG_: return for_each<unsigned long>(x, check);
        case Api::NPY_LONGLONG_: return for_each<long long>(x, check);
        default: return for_each<unsigned long long>(x, check);
    }
}

// Numbers distinct ids in the order in which they first come, with an open-addressed hash table.
class Numbering {
public:
    explicit Numbering(Index most_distinct) {
        std::size_t capacity = 16;
        while (capacity < 2 * static_cast<std::size_t>(most_distinct)) capacity *= 2;
        place_.assign(capacity, -1);
    }

    std::int32_t number(std::int64_t id, std::vector<std::int64_t>& ids) {
        const std::size_t mask = place_.size() - 1;
        // The multiplier is 2^64 divided by the golden ratio, which spreads neighbours.
        std::size_t at = static_cast<std::size_t>((static_cast<std::uint64_t>(id) * 0x9e3779b97f4a7c15u) >> 32) & mask;
        for (; place_[at] >= 0; at = (at + 1) & mask)
            if (ids[static_cast<std::size_t>(place_[at])] == id) return place_[at];
        place_[at] = static_cast<std::int32_t>(ids.size());
        ids.push_back(id);
        return place_[at];
    }

private:
    std::vector<std::int32_t> place_;  // -1: free
};

// --- options

bool same_text(const char* a, const char* b) { return std::strcmp(a, b) == 0; }
bool in_family(const CellInfo& cell, const char* family) { return same_text(cell.family, family); }
// What follows "<family>_" in a cell's name, if anything does.
const char* variant(const CellInfo& cell) {
    const char* const end = cell.name + std::strlen(cell.family);
    return *end ? end + 1 : end;
}

Cell cell_by_variant(const Function& function, const char* argument, PyObject* option) {
    if (!PyUnicode_Check(option)) wrong_type(function.name(), argument, option, "a string");
    std::string expected;
    for (int i = 0; i < kCellCount; ++i) {
        if (!in_family(kCells[i], function.family)) continue;
        if (PyUnicode_CompareWithASCIIString(option, variant(kCells[i])) == 0) return static_cast<Cell>(i);
        expected += (expected.empty() ? "'" : " or '") + std::string(variant(kCells[i])) + "'";
    }
    throw py::value_error(function.name() + ": " + argument + " is " + py::repr(option).cast<std::string>() +
                          ", expected " + expected);
}

// Where each step's rows begin.
std::vector<Index> first_rows(const Checks& checks, PyObject* counts) {
    const char* const expected = "an array (T,) of int64";
    if (!is_array(counts) || !is_integer(counts) || dtype(counts).type_num != Api::NPY_INT64_)
        checks.wrong_type("row_counts", counts, expected);
    checks.axes("row_counts", counts, "(T,)", 1);
    std::vector<Index> first{0};
    Index before = std::numeric_limits<Index>::max();
    for_each<std::int64_t>(counts, [&](Index, Index, std::int64_t count) {
        if (count < 1 || count > before || count > std::numeric_limits<Index>::max() - first.back())
            checks.wrong_value("row_counts", "has a count of " + std::to_string(count) +
                                                 ", expected at least 1 and at most the one before");
        first.push_back(first.back() + (before = count));
    });
    return first;
}

}  // namespace

const char* find_family(PyObject* name) {
    for (const CellInfo& cell : kCells)
        if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, cell.family) == 0) return cell.family;
    throw py::value_error("there is no family of cells called " + py::repr(name).cast<std::string>());
}

Cell choose_cell(const Function& function, PyObject* option) {
    if (same_text(function.family, "rnn"))
        return option ? cell_by_variant(function, "nonlinearity", option) : Cell::rnn_tanh;
    if (same_text(function.family, "gru") && option && PyUnicode_Check(option))
        return cell_by_variant(function, "variant", option);
    if (same_text(function.family, "gru"))
        return !option || check_bool(function, "reset_after", option) ? Cell::gru_reset_after : Cell::gru_reset_before;
    if (same_text(function.family, "lstm") && option) return cell_by_variant(function, "variant", option);
    for (int i = 0; i < kCellCount; ++i)
        if (in_family(kCells[i], function.family)) return static_cast<Cell>(i);
    throw py::value_error(function.name() + " is no function");
}

bool check_bool(const Function& function, const char* argument, PyObject* value) {
    if (value == Py_True) return true;
    if (value == Py_False) return false;
    wrong_type(function.name(), argument, value, "a bool");
}

void wrong_type(const std::string& function, const char* argument, PyObject* value, const std::string& expected) {
    throw py::type_error(function + ": " + argument + " " + got(value) + ", expected " + expected);
}

Inputs::Inputs(const Function& function, Cell cell, PyObject* const* arguments, PyObject* row_counts)
    : function(function), cell(cell) {
    const CellInfo& info = kCells[static_cast<int>(cell)];
    const Checks checks(function, info);
    const bool step = same_text(function.verb, "step");
    const bool rows_differ = !is_none(row_counts), flat = step || rows_differ;
    const char* const axes = step ? "(B, I)" : rows_differ ? "(N, I)" : "(T, B, I)";
    const char* const state_names[kMaxStates] = {step ? "h" : "h0", step ? "c" : "c0"};

    x = arguments[X];
    w_ih = arguments[WIh];
    w_hh = arguments[WHh];
    const bool array = x && is_array(x);
    tokens = array && is_integer(x);
    if (!tokens) {
        single = array && is_float(x, true);
        if (!single && !(array && is_float(x, false)))
            checks.wrong_type("x", x, "a NumPy array of float32 or float64, or of integers (tokens)");
        if (fields(x).nd != (flat ? 2 : 3))
            checks.wrong_value("x", "has shape " + words(shape_of(x)) + ", expected " + axes);
    } else if (fields(x).nd != (flat ? 1 : 2)) {
        // Integers are tokens or a mistake, and with this shape they are a mistake.
        checks.wrong_type("x", x,
                          std::string("float32 or float64 for shape ") + words(shape_of(x)) +
                              "; integers are tokens, of shape " +
                              (step          ? "(B,)"
                               : rows_differ ? "(N,)"
                                             : "(T, B)"));
    }
    const char* const reference = tokens ? "w_ih" : "x";
    if (tokens) {
        single = checks.any_floats("w_ih", w_ih);
    } else {
        checks.floats("w_ih", w_ih, single, reference);
    }
    const bool with_projection = projects(info);
    if (info.recurrent) {
        checks.floats("w_hh", w_hh, single, reference);
        checks.axes("w_hh", w_hh, with_projection ? "(G*H*P + P*H,)" : "(G*H, H)", with_projection ? 1 : 2);
    } else if (!is_none(w_hh)) {
        checks.wrong_type("w_hh", w_hh, "None");
    } else {
        w_hh = nullptr;
    }
    checks.axes("w_ih", w_ih, "(G*H, I)", 2);
    const Index* const x_shape = fields(x).dimensions;
    const Index H = w_hh && !with_projection ? fields(w_hh).dimensions[1] : fields(w_ih).dimensions[0] / info.gates,
                I = fields(w_ih).dimensions[1];
    if (rows_differ) first_row = first_rows(checks, row_counts);
    const Index T = step ? 1 : rows_differ ? static_cast<Index>(first_row.size()) - 1 : x_shape[0];
    const Index B = rows_differ ? (T > 0 ? first_row[1] : 0) : x_shape[step ? 0 : 1];
    if (rows_differ && x_shape[0] != first_row.back())
        checks.wrong_value("x", "has " + std::to_string(x_shape[0]) +
                                    " rows, expected the sum of row_counts = " + std::to_string(first_row.back()));
    size = {T, B, I, H, 0};
    // H may come from an array of stride 0 and be anything; G*H must not overflow before it is compared.
    if (H > std::numeric_limits<Index>::max() / 16)
        checks.wrong_value("w_hh", "has shape " + words(shape_of(w_hh)) + ", which is more than memory can hold");
    const Index rows = info.gates * H;
    if (with_projection) {
        size.P = fields(w_hh).dimensions[0] / std::max<Index>(1, info.recurrent * H);
        if (size.P > H || (H > 0 && size.P == 0))
            checks.wrong_value("w_hh",
                               "has shape " + words(shape_of(w_hh)) + ", expected P from 1 to H = " + words({H}));
        checks.shape("w_hh", w_hh, "(G*H*P + P*H,)", {info.recurrent * H * size.P});
    } else if (w_hh) {
        checks.shape("w_hh", w_hh, "(G*H, H)", {info.recurrent * H, H});
    }
    checks.shape("w_ih", w_ih, "(G*H, I)", {rows, I});
    if (!tokens && flat) checks.shape("x", x, axes, {x_shape[0], I});
    if (!tokens && !flat) checks.shape("x", x, axes, {T, B, I});
    b_ih = checks.optional("b_ih", arguments[BIh], single, reference, "(G*H,)", {rows});
    b_hh = checks.optional("b_hh", arguments[BHh], single, reference, "(G*H,)", {rows});
    vectors = info.vectors > 0 ? arguments[Vectors] : nullptr;
    if (vectors) checks.floats("vectors", vectors, single, reference);
    if (vectors) checks.shape("vectors", vectors, "(V, H)", {info.vectors, H});
    for (int s = 0; s < info.states; ++s)
        state[s] = checks.optional(state_names[s], arguments[State0 + s], single, reference, "(B, H)", {B, H});

    mask = nullptr;
    for (PyObject*& each : keep) each = nullptr;
    if (PyObject* const given = arguments[Regularised]; !is_none(given)) {
        if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) != 1 + info.states)
            checks.wrong_type("regularised", given, "a tuple of a mask and a share to keep for each state, or None");
        const auto plain = [&](const char* name, PyObject* array, Index array_rows) {
            PyObject* const checked = checks.optional(name, array, single, reference, "(N, H)", {array_rows, H});
            if (checked) check_output(function, name, checked);  // as it is: the tape refers to it
            return checked;
        };
        mask = plain("mask", PyTuple_GET_ITEM(given, 0), B);
        const Index all = rows_differ ? first_row.back() : T * B;
        for (int s = 0; s < info.states; ++s) {
            PyObject* const array = PyTuple_GET_ITEM(given, 1 + s);
            const bool one =
                !is_none(array) && is_array(array) && fields(array).nd == 2 && fields(array).dimensions[0] == 1;
            keep[s] = plain("keep", array, one ? 1 : all);
        }
    }

    Sizes most = size;
    if (tokens) most.D = T > 0 && B > 0 ? 1 : 0;
    if (!addressable(info, most))
        checks.wrong_value("T, B, I, H", "= " + words({T, B, I, H}) + " is more than memory can hold");
}

TokenTable Inputs::token_table() const {
    TokenTable table;
    const Index count = first_row.empty() ? size.T * size.B : first_row.back();
    const Index most_distinct = count < size.I ? count : size.I;
    if (most_distinct > std::numeric_limits<std::int32_t>::max())
        throw py::value_error(function.name() + ": x has more than 2^31 - 1 tokens");
    Numbering numbering(most_distinct);
    table.slot.reserve(static_cast<std::size_t>(count));
    for_each_token(function, x, size.I, [&](std::int64_t id) { table.slot.push_back(numbering.number(id, table.id)); });
    return table;
}

std::vector<std::int64_t> Inputs::token_list() const {
    std::vector<std::int64_t> ids;
    ids.reserve(static_cast<std::size_t>(size.B));
    for_each_token(function, x, size.I, [&](std::int64_t id) { ids.push_back(id); });
    return ids;
}

LinearInputs::LinearInputs(PyObject* const* arguments)
    : x(arguments[X]), weight(arguments[Weight]), bias(nullptr), out(nullptr) {
    const Function function{"", "", "linear"};
    const Checks checks(function, kCells[0]);
    single = checks.any_floats("weight", weight);
    checks.axes("weight", weight, "(O, I)", 2);
    O = fields(weight).dimensions[0], I = fields(weight).dimensions[1];
    checks.floats("x", x, single, "weight");
    checks.axes("x", x, "(B, I)", 2);
    B = fields(x).dimensions[0];
    checks.shape("x", x, "(B, I)", {B, I});
    bias = checks.optional("bias", arguments[Bias], single, "weight", "(O,)", {O});
    out = checks.optional("out", arguments[Out], single, "weight", "(B, O)", {B, O});
    if (!out) return;
    check_output(function, "out", out);
    for (PyObject* const in : {x, weight, bias}) {
        if (in && overlaps(in, fields(out).data, B * O * (single ? 4 : 8)))
            throw py::value_error("linear: out shares memory with an input, expected an array apart from them");
    }
}

void check_floats(const Function& function, const char* argument, PyObject* value, bool single, const char* reference,
                  const char* letters, std::initializer_list<Index> shape) {
    const Checks checks(function, kCells[0]);
    checks.floats(argument, value, single, reference);
    checks.shape(argument, value, letters, shape);
}

bool overlaps(PyObject* array, const void* begin, Index bytes) {
    const char *first = static_cast<const char*>(fields(array).data), *last = first;
    for (int axis = 0; axis < fields(array).nd; ++axis) {
        if (fields(array).dimensions[axis] == 0) return false;
        const Index reach = (fields(array).dimensions[axis] - 1) * fields(array).strides[axis];
        (reach < 0 ? first : last) += reach;
    }
    const char* const other = static_cast<const char*>(begin);
    return bytes > 0 && last >= other && first < other + bytes;
}

void check_output(const Function& function, const char* argument, PyObject* array) {
    constexpr int plain = Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ | Api::NPY_ARRAY_WRITEABLE_;
    if ((fields(array).flags & plain) != plain)
        throw py::value_error(function.name() + ": " + argument +
                              " is read-only or has gaps, expected a writable C-contiguous array");
}

void check_tokens(const Function& function, const char* argument, PyObject* value, Index B, Index I,
                  std::int64_t* ids) {
    if (!value || !is_array(value) || !is_integer(value))
        wrong_type(function.name(), argument, value, "a NumPy array of integers (tokens)");
    Checks(function, kCells[0]).shape(argument, value, "(B,)", {B});
    for_each_token(function, value, I, [&](std::int64_t id) { *ids++ = id; });
}

Upstream::Upstream(const Function& function, Cell cell, bool single, const Sizes& size, PyObject* const* arguments) {
    const CellInfo& info = kCells[static_cast<int>(cell)];
    const Checks checks(function, info);
    const char* const names[kMaxStates] = {"dh_n", "dc_n"};
    if (size.first_row)
        dy = checks.optional("dy", arguments[Y], single, "the tape", "(N, H)", {size.first_row[size.T], size.H});
    else
        dy = checks.optional("dy", arguments[Y], single, "the tape", "(T, B, H)", {size.T, size.B, size.H});
    for (int s = 0; s < info.states; ++s)
        dstate[s] = checks.optional(names[s], arguments[State + s], single, "the tape", "(B, H)", {size.B, size.H});
}

Floats::Floats(const char* function, PyObject* array) : single(false), size(1), array(array) {
    const Function called{"", "", function};
    single = Checks(called, kCells[0]).any_floats("array", array);
    for (int i = 0; i < fields(array).nd; ++i) size *= fields(array).dimensions[i];
}

const void* Copies::pointer(PyObject* array) {
    constexpr int plain = Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_;
    if ((fields(array).flags & plain) == plain) return fields(array).data;
    PyObject* const copy = api().PyArray_FromAny_(array, nullptr, 0, 0, plain | Api::NPY_ARRAY_ENSUREARRAY_, nullptr);
    if (!copy) throw py::error_already_set();
    kept_.push_back(py::reinterpret_steal<py::object>(copy));
    return fields(copy).data;
}

py::object new_array(bool single, std::initializer_list<Index> shape) {
    std::size_t bytes = single ? sizeof(float) : sizeof(double);
    for (const Index length : shape) bytes *= static_cast<std::size_t>(length);
    std::unique_ptr<Buffer> memory;
    if (bytes >= Buffer::kSmallestKept) memory = std::make_unique<Buffer>(bytes);
    PyObject* const descr = api().PyArray_DescrFromType_(single ? Api::NPY_FLOAT_ : Api::NPY_DOUBLE_);
    // Takes over the reference to descr.
    PyObject* const array =
        api().PyArray_NewFromDescr_(api().PyArray_Type_, descr, static_cast<int>(shape.size()), shape.begin(), nullptr,
                                    memory ? memory->data() : nullptr, memory ? Api::NPY_ARRAY_WRITEABLE_ : 0, nullptr);
    if (!array) throw py::error_already_set();
    py::object result = py::reinterpret_steal<py::object>(array);
    if (memory) {
        py::capsule owner(memory.get(), [](void* owned) { delete static_cast<Buffer*>(owned); });
        memory.release();
        if (api().PyArray_SetBaseObject_(array, owner.release().ptr()) < 0) throw py::error_already_set();
    }
    return result;
}

py::object new_sequence(bool single, const Sizes& size, Index n) {
    if (size.first_row) return new_array(single, {size.first_row[size.T], n});
    return new_array(single, {size.T, size.B, n});
}

}  // namespace fastrnn
