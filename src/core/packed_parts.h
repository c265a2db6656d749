/* What an open packed trie is made of; for core/packed*.c and core/overlay_verify.c alone. */
#pragma once

#include "core/column_bests.h"
#include "core/column_expiry.h"
#include "core/column_filter.h"
#include "core/column_postings.h"
#include "core/column_present.h"
#include "core/column_row.h"
#include "core/front.h"
#include "core/packed.h"
#include "core/packed_format.h"
#include "core/pages.h"

struct packed {
    struct heap *heap;
    struct slice file;
    struct pages pages;
    struct packed_footer footer;
    struct front *front;
    struct rows rows;
    struct present present;
    struct bests bests;
    struct filter filter;
    struct postings postings;
    struct expiry expiry;
    struct slice sums;
};
