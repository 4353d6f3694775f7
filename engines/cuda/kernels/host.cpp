// The kernels as functions of the host: the grid, the block and the parameters of cuLaunchKernel.
#include "letterbox.cu"

template <typename T>
static T parameter(void **parameters, int index) {
    T value;
    std::memcpy(&value, parameters[index], sizeof value);
    return value;
}

extern "C" void watchpost_host_letterbox(const unsigned *grid, const unsigned *block, void **parameters) {
    const auto args = parameter<LetterboxArgs>(parameters, 0);
    host_launch(grid, block, [&] { letterbox(args); });
}

extern "C" void watchpost_host_to_half(const unsigned *grid, const unsigned *block, void **parameters) {
    const auto from = parameter<const float *>(parameters, 0);
    const auto to = parameter<unsigned short *>(parameters, 1);
    const auto count = parameter<unsigned>(parameters, 2);
    host_launch(grid, block, [&] { to_half(from, to, count); });
}
