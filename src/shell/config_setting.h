/* The table of settings: names, kinds, bounds, and how a value reads and prints. Private to
 * the configuration. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "shell/config.h"

enum config_kind {
    CONFIG_KIND_PATH, /* May be empty if `automatic`: none. */
    CONFIG_KIND_ZONE,
    CONFIG_KIND_ADDRESS,
    CONFIG_KIND_ADDRESSES,
    CONFIG_KIND_NAMES,
    CONFIG_KIND_CHOICE,
    CONFIG_KIND_BOOL,
    CONFIG_KIND_NUMBER,
    CONFIG_KIND_BYTES,
    CONFIG_KIND_SYNC,
};

struct config_setting {
    const char *name;
    enum config_kind kind;
    bool cluster_wide;
    bool automatic; /* A number 0 is written `auto`, an empty path `none`. */
    size_t offset;
    uint64_t least, most;
    const char *choices; /* Separated by `|`, in the order of the enum. */
    const char *value;   /* The default. */
    const char *help;
};

extern const struct config_setting config_settings[CONFIG_SETTING_COUNT];

/* NULL when there is none of that name. */
const struct config_setting *config_setting_find(struct slice name);

/* The name that is nearest to `name`, or NULL. */
const char *config_setting_nearest(struct slice name);

/* Reads `text` into its field. On false the field is unchanged. */
bool config_setting_read(const struct config_setting *setting, struct slice text,
                         struct config *config);

/* Appends what config_setting_read() would have taken: "a number from 1 to 7". */
void config_setting_expected(const struct config_setting *setting, struct buf *out);

/* Appends the value as config_setting_read() takes it. */
void config_setting_write(const struct config_setting *setting, const struct config *config,
                          struct buf *out);
