/* Reads settings from YAML: one flat mapping. Private to the configuration. */
#pragma once

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "shell/config.h"

/* Sets what `file` names in `config`. Aliases, anchors, tags, nesting (but for a list of
 * addresses), second documents and repeated settings are refused.
 *
 * Errors: STATUS_INVALID, with one line in `message`; STATUS_NOMEM. `config` may then be
 * half changed. */
enum status config_yaml_read(const char *file_name, struct slice file, struct config *config,
                             struct buf *message);
