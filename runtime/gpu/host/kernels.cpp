// All kernels as functions of the processor. The sources' own includes are for a GPU.
#define HOST
#include "host.h"
#include "words.h"

#include "ntt.cu"

#include "elementwise.cu"

#include "keyswitch.cu"

#include "measure.cu"
