// Bochs 2.7 compares the wrong bits when it rounds to f16: what lies half way between two f16 values
// goes up, not to the even one. This function takes the place of its roundAndPackFloat16 in the copy
// that is run (patch.rs), and must not be longer.

// The beginning of Bochs' float_status_t.
struct status {
    int precision;
    int rounding;
    int raised;
    int masked;
};

enum { NEAREST, DOWN, UP, TO_ZERO };
enum { OVERFLOW = 8, UNDERFLOW = 16, INEXACT = 32 };

// The significand has its leading one at bit 14, and four bits more than are kept.
unsigned short round_f16(int sign, short exponent, unsigned short significand, struct status *status)
{
    int mode = status->rounding;
    unsigned away = sign ? DOWN : UP;
    unsigned increment = mode == NEAREST ? 8 : mode == away ? 15 : 0;
    unsigned bits = significand;
    if (exponent > 29 || (exponent == 29 && bits + increment > 0x7fff)) {
        status->raised |= OVERFLOW | INEXACT;
        return (sign << 15) + 0x7c00 - (increment == 0);
    }
    if (exponent < 0) {
        int by = exponent < -15 ? 16 : -exponent;
        unsigned lost = bits & ((1u << by) - 1);
        bits = bits >> by | (lost != 0);
        exponent = 0;
        if (bits & 15 || !(status->masked & UNDERFLOW))
            status->raised |= UNDERFLOW;
    }
    unsigned rest = bits & 15;
    if (rest)
        status->raised |= INEXACT;
    bits = (bits + increment) >> 4;
    if (mode == NEAREST && rest == 8)
        bits &= ~1u;
    if (bits == 0)
        exponent = 0;
    return (sign << 15) + (exponent << 10) + bits;
}
