/* Which requests a web page may have made a browser send that are no business of that page.
 *
 * A node that asks for no keys trusts everybody who reaches its address. On loopback that is
 * whatever runs on the machine, and a browser runs pages of anybody. Two rules keep those out;
 * programs that are no browsers do not meet them.
 *
 *   1. Whoever is asked by name must bear it. A page can give its own name our address (DNS
 *      rebinding) and is then of one origin with us, but its requests still say that name. So
 *      the host of a request is an IP address, `localhost`, a name below that, or one of
 *      `names`. Checked where `names_checked`; a request without a host passes.
 *   2. Whoever changes something must come from us. Browsers say with every request but GET and
 *      HEAD which page it comes from. `Sec-Fetch-Site`, where it is there, has to be
 *      same-origin or none (typed by the user): it is right behind any proxy. Else `Origin` has
 *      to be the host of the request, or one of `names` on the usual port.
 *
 * A page can read no answer of ours either, for none allows it to (there are no CORS headers).
 *
 * Source: Go's http.CrossOriginProtection; W3C Fetch Metadata; RFC 6454; RFC 6761, section 6.3. */
#pragma once

#include <stdbool.h>

#include "base/slice.h"
#include "proto/http_request.h"
#include "proto/problem.h"

struct cross_site_rules {
    bool names_checked;
    struct slice names; /* Separated by commas, in lower case; may be empty. */
};

/* Whether the request may be answered; else why not. `*detail` is static. */
bool cross_site_admits(const struct cross_site_rules *rules, const struct http_request *request,
                       enum problem_code *code, const char **detail);
