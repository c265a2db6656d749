#include "proto/number.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

enum {
    EXACT_POWER_MAX = 22,   /* 10^22 is the greatest power of ten that a double holds. */
    SHORT_FRACTION_MAX = 6, /* Digits after the point that are tried first. */
    /* No decimal text needs more digits to be told from the middle of two doubles, but for
     * whether anything follows. */
    DIGITS_MAX = 800,
    EXPONENT_MAX = 1 << 20, /* Far beyond every double, far from overflowing. */
};

static const double powers[EXACT_POWER_MAX + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

static const double exact_max = 9007199254740992.0; /* 2^53 */

static size_t put_u64(uint64_t value, unsigned digits_min, uint8_t *out)
{
    uint8_t digits[20];
    unsigned count = 0;
    do {
        digits[count++] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value != 0 || count < digits_min);
    for (unsigned i = 0; i < count; i++) out[i] = digits[count - 1 - i];
    return count;
}

/* With the fewest digits after the point, if six will do; 0 when not. Division of two exact
 * numbers rounds as reading the text would. */
static size_t put_short_fraction(double value, uint8_t *out)
{
    for (unsigned places = 1; places <= SHORT_FRACTION_MAX; places++) {
        double scaled = nearbyint(value * powers[places]);
        if (scaled >= exact_max) return 0;
        if (scaled / powers[places] != value) continue;
        uint64_t all = (uint64_t)scaled;
        uint64_t unit = (uint64_t)powers[places];
        size_t size = put_u64(all / unit, 1, out);
        out[size++] = '.';
        return size + put_u64(all % unit, places, out + size);
    }
    return 0;
}

/* What printf() makes of it, with the locale's point, which may be several bytes. */
static size_t put_printed(double value, uint8_t *out)
{
    char text[64];
    size_t size = 0;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        size = 0;
        for (const char *at = text; *at != '\0'; at++) {
            bool ours = (*at >= '0' && *at <= '9') || *at == 'e' || *at == '-' || *at == '+';
            if (ours)
                out[size++] = (uint8_t)*at;
            else if (size > 0 && out[size - 1] != '.')
                out[size++] = '.';
        }
        double again;
        if (number_parse(slice_of(out, size), &again) == STATUS_OK && again == value) break;
    }
    return size;
}

size_t number_put(double value, uint8_t out[NUMBER_BYTES_MAX])
{
    CHECK(isfinite(value));
    size_t size = 0;
    if (signbit(value)) {
        out[size++] = '-';
        value = -value;
    }
    if (value <= exact_max && value == floor(value)) {
        return size + put_u64((uint64_t)value, 1, out + size);
    }
    size_t fraction = value < exact_max ? put_short_fraction(value, out + size) : 0;
    if (fraction == 0) fraction = put_printed(value, out + size);
    CHECK(size + fraction <= NUMBER_BYTES_MAX);
    return size + fraction;
}

void number_append(double value, struct buf *out)
{
    uint8_t *to = buf_reserve(out, NUMBER_BYTES_MAX);
    if (to != NULL) buf_commit(out, number_put(value, to));
}

/* digits × 10^exponent, negative or not. */
struct decimal {
    bool negative;
    bool more;      /* Something other than zeros was left out after `digits`. */
    unsigned count; /* Digits kept, leading zeros not among them. */
    int64_t exponent;
    uint64_t mantissa; /* The first nineteen digits. */
    char digits[DIGITS_MAX];
};

static void take_digit(struct decimal *decimal, uint8_t digit, bool fraction)
{
    if (fraction) decimal->exponent--;
    if (decimal->count == 0 && digit == '0') return;
    if (decimal->count == DIGITS_MAX) {
        decimal->more |= digit != '0';
        decimal->exponent++;
        return;
    }
    if (decimal->count < 19) decimal->mantissa = decimal->mantissa * 10 + (digit - '0');
    decimal->digits[decimal->count++] = (char)digit;
}

static size_t take_digits(struct slice text, size_t at, bool fraction, struct decimal *decimal)
{
    size_t start = at;
    while (at < text.size && text.data[at] >= '0' && text.data[at] <= '9') {
        take_digit(decimal, text.data[at++], fraction);
    }
    return at - start;
}

/* Reads "e[+-]digits" up to the end of the text. */
static bool take_exponent(struct slice text, size_t at, struct decimal *decimal)
{
    if (text.data[at] != 'e' && text.data[at] != 'E') return false;
    at++;
    bool negative = at < text.size && text.data[at] == '-';
    if (at < text.size && (text.data[at] == '-' || text.data[at] == '+')) at++;
    if (at == text.size) return false;

    int64_t exponent = 0;
    for (; at < text.size; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') return false;
        if (exponent < INT64_C(1) << 50) exponent = exponent * 10 + (text.data[at] - '0');
    }
    decimal->exponent += negative ? -exponent : exponent;
    return true;
}

static bool decimal_parse(struct slice text, struct decimal *decimal)
{
    size_t at = 0;
    if (text.size > 0 && (text.data[0] == '-' || text.data[0] == '+')) at = 1;
    decimal->negative = at == 1 && text.data[0] == '-';

    size_t whole = take_digits(text, at, false, decimal);
    size_t fraction = 0;
    at += whole;
    if (at < text.size && text.data[at] == '.') {
        fraction = take_digits(text, at + 1, true, decimal);
        at += 1 + fraction;
    }
    if (whole + fraction == 0) return false;
    return at == text.size || take_exponent(text, at, decimal);
}

/* strtod() over an integer with an exponent: no point, so no locale. */
static double decimal_round(const struct decimal *decimal)
{
    char text[DIGITS_MAX + 32];
    int64_t exponent = decimal->exponent;
    size_t size = decimal->count;
    memcpy(text, decimal->digits, size);
    if (decimal->more) {
        text[size++] = '1';
        exponent--;
    }
    if (exponent > EXPONENT_MAX) exponent = EXPONENT_MAX;
    if (exponent < -EXPONENT_MAX) exponent = -EXPONENT_MAX;
    snprintf(text + size, sizeof text - size, "e%d", (int)exponent);
    return strtod(text, NULL);
}

enum status number_parse(struct slice text, double *out)
{
    struct decimal decimal;
    memset(&decimal, 0, offsetof(struct decimal, digits));
    if (!decimal_parse(text, &decimal)) return STATUS_INVALID;

    double value;
    bool exact = decimal.count <= 19 && decimal.mantissa <= (uint64_t)exact_max;
    if (decimal.count == 0) {
        value = 0;
    } else if (exact && decimal.exponent >= 0 && decimal.exponent <= EXACT_POWER_MAX) {
        value = (double)decimal.mantissa * powers[decimal.exponent];
    } else if (exact && decimal.exponent < 0 && decimal.exponent >= -EXACT_POWER_MAX) {
        value = (double)decimal.mantissa / powers[-decimal.exponent];
    } else {
        value = decimal_round(&decimal);
    }
    if (!isfinite(value)) return STATUS_INVALID;
    *out = decimal.negative ? -value : value;
    return STATUS_OK;
}
