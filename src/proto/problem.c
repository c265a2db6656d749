#include "proto/problem.h"

#include "proto/json_write.h"

static const struct entry {
    const char *name;
    const char *title;
    uint16_t status;
    const char *detail; /* Where nobody gives another; NULL: the title. */
} entries[PROBLEM_CODE_COUNT] = {
    [PROBLEM_BAD_REQUEST] = {"bad_request", "The request is malformed", 400},
    [PROBLEM_INVALID_JSON] = {"invalid_json", "The body is not the JSON expected", 400},
    [PROBLEM_UNKNOWN_FIELD] = {"unknown_field", "There is no such field", 400},
    [PROBLEM_DUPLICATE_FIELD] = {"duplicate_field", "A field is given twice", 400},
    [PROBLEM_MISSING_FIELD] = {"missing_field", "A field is missing", 400},
    [PROBLEM_INVALID_WORD] = {"invalid_word", "The word cannot be stored", 400},
    [PROBLEM_INVALID_SCORE] = {"invalid_score", "The score is not a finite number", 400},
    [PROBLEM_INVALID_PAYLOAD] = {"invalid_payload", "The payload cannot be stored", 400},
    [PROBLEM_INVALID_TAGS] = {"invalid_tags", "The tags cannot be stored", 400},
    [PROBLEM_INVALID_EXPIRY] = {"invalid_expiry", "The time of expiry is not valid", 400},
    [PROBLEM_INVALID_NAMESPACE] = {"invalid_namespace", "The namespace is not valid", 400},
    [PROBLEM_INVALID_PARAMETER] = {"invalid_parameter", "A parameter is not valid", 400},
    [PROBLEM_UNKNOWN_PARAMETER] = {"unknown_parameter", "There is no such parameter", 400},
    [PROBLEM_INVALID_CURSOR] = {"invalid_cursor", "The cursor is altered or of another query", 400},
    [PROBLEM_INVALID_LINE] = {"invalid_line", "A line is malformed", 400},
    [PROBLEM_LINE_TOO_LONG] = {"line_too_long", "A line is too long", 400},
    [PROBLEM_UNAUTHORIZED] = {"unauthorized", "A key is required", 401},
    [PROBLEM_FORBIDDEN] = {"forbidden", "The key does not allow this", 403},
    [PROBLEM_CROSS_SITE] = {"cross_site", "The request comes from a page of another site", 403},
    [PROBLEM_UNKNOWN_HOST] = {"unknown_host", "The node is not known by this host", 403},
    [PROBLEM_NOT_FOUND] = {"not_found", "There is no such word or route", 404},
    [PROBLEM_METHOD_NOT_ALLOWED] = {"method_not_allowed", "The route has no such method", 405},
    [PROBLEM_REQUEST_TIMEOUT] = {"request_timeout", "The request came too slowly", 408},
    [PROBLEM_CONFLICT] = {"conflict", "The state of the cluster does not allow this", 409},
    [PROBLEM_LENGTH_REQUIRED] = {"length_required", "The length of the body is missing", 411},
    [PROBLEM_PAYLOAD_TOO_LARGE] = {"payload_too_large", "The body or payload is too large", 413},
    [PROBLEM_URI_TOO_LONG] = {"uri_too_long", "The target is too long", 414},
    [PROBLEM_UNSUPPORTED_MEDIA_TYPE] = {"unsupported_media_type",
                                        "The type of the body is not known here", 415},
    [PROBLEM_EXPECTATION_FAILED] = {"expectation_failed", "The expectation is not known here", 417},
    [PROBLEM_TOO_MANY_REQUESTS] = {"too_many_requests", "Requests come too fast", 429},
    [PROBLEM_HEADERS_TOO_LARGE] = {"headers_too_large", "The headers are too large", 431},
    [PROBLEM_INTERNAL] = {"internal", "The server failed", 500},
    [PROBLEM_NOT_IMPLEMENTED] = {"not_implemented", "The method or coding is not known here", 501},
    [PROBLEM_NO_HEALTHY_OWNER] = {"no_healthy_owner", "No node that holds the range is up", 503},
    [PROBLEM_QUORUM_NOT_MET] = {"quorum_not_met", "Too few nodes that hold the range are up", 503},
    [PROBLEM_OVERLOADED] = {"overloaded", "The node has too much to do", 503},
    [PROBLEM_READ_ONLY] = {"read_only", "The node takes no writes until it is restarted", 503,
                           "a write to the disk of the data directory failed"},
    [PROBLEM_NOT_READY] = {"not_ready", "The node is starting or stopping", 503},
    [PROBLEM_TIMEOUT] = {"timeout", "It took too long", 504},
    [PROBLEM_HTTP_VERSION] = {"http_version", "The version of HTTP is not spoken here", 505},
    [PROBLEM_DISK_FULL] = {"disk_full", "The disk is full", 507,
                           "the disk of the data directory is nearly full: only deletions are "
                           "taken until there is room"},
};

const char *problem_code_name(enum problem_code code)
{
    return entries[code].name;
}

const char *problem_title(enum problem_code code)
{
    return entries[code].title;
}

const char *problem_detail(enum problem_code code)
{
    return entries[code].detail != NULL ? entries[code].detail : entries[code].title;
}

uint16_t problem_status(enum problem_code code)
{
    return entries[code].status;
}

enum problem_code problem_code_of_status(uint16_t http_status)
{
    for (int code = 0; code < PROBLEM_CODE_COUNT; code++) {
        if (entries[code].status == http_status) return (enum problem_code)code;
    }
    return PROBLEM_BAD_REQUEST;
}

void problem_append(struct buf *out, const struct problem *problem)
{
    const struct entry *entry = &entries[problem->code];
    struct json_writer writer = json_writer_of(out);

    json_write_object_begin(&writer);
    json_write_name(&writer, "type");
    buf_append_text(out, "\"urn:trifecta:error:");
    buf_append_text(out, entry->name);
    buf_append_text(out, "\"");
    writer.comma = true;
    json_write_name(&writer, "title");
    json_write_text(&writer, entry->title);
    json_write_name(&writer, "status");
    json_write_u64(&writer, entry->status);
    json_write_name(&writer, "detail");
    json_write_text(&writer,
                    problem->detail != NULL ? problem->detail : problem_detail(problem->code));
    json_write_name(&writer, "code");
    json_write_text(&writer, entry->name);
    if (problem->field.size > 0) {
        json_write_name(&writer, "field");
        json_write_string(&writer, problem->field);
    }
    if (problem->request_id.size > 0) {
        json_write_name(&writer, "request_id");
        json_write_string(&writer, problem->request_id);
    }
    if (problem->members.size > 0) {
        buf_append_u8(out, ',');
        buf_append_slice(out, problem->members);
    }
    json_write_object_end(&writer);
}
