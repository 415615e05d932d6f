#include "bindings.h"

PYBIND11_MODULE(_core, m) {
    m.doc() = "The compiled part of fastrnn. Use the functions of fastrnn, which stand on it.";
    m.attr("__version__") = FASTRNN_VERSION;
    fastrnn::bind_settings(m);
    fastrnn::bind_tape(m);
    fastrnn::bind_format_weights(m);
    fastrnn::bind_options(m);
    fastrnn::bind_sums(m);
    fastrnn::bind_stream(m);
    fastrnn::bind_cells(m);
    fastrnn::bind_probes(m);
}
