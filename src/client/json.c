#include "client/json.h"

#include "proto/base64.h"

json_t *json_parse(struct slice text)
{
    return json_loadb((const char *)text.data, text.size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES,
                      NULL);
}

bool json_get_bytes(const json_t *json, struct buf *out)
{
    const json_t *base64 = json_object_get(json, "base64");
    const json_t *text = base64 == NULL ? json : base64;
    if (!json_is_string(text)) return false;
    struct slice bytes = slice_of(json_string_value(text), json_string_length(text));
    if (base64 != NULL) return base64_decode(BASE64_PADDED, bytes, out) == STATUS_OK;
    buf_append_slice(out, bytes);
    return !out->failed;
}
