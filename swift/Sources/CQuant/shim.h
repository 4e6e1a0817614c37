#include <quant.h>
