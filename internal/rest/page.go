package rest

import (
	"fmt"
	"net/http"
	"strconv"
)

// explanations of the codes that have an error page (rest-api.md section 12).
var explanations = map[int]string{
	http.StatusBadRequest:            "Bad request syntax or unsupported method",
	http.StatusNotFound:              "Nothing matches the given URI",
	http.StatusConflict:              "Request conflict",
	http.StatusLengthRequired:        "Client must specify Content-Length",
	http.StatusRequestEntityTooLarge: "Entity is too large",
	http.StatusNotImplemented:        "Server does not support this operation",
	http.StatusBadGateway:            "Invalid responses from another server/proxy",
	http.StatusServiceUnavailable:    "The server cannot process the request due to a high load",
}

// page answers with the error page of that code.
func (s *Server) page(w http.ResponseWriter, r *http.Request, code int) {
	s.pageWith(w, r, code, http.StatusText(code))
}

// unsupported is 501. Old clients look for its explanation to try an older API.
func (s *Server) unsupported(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if _, known := methods[method]; !known {
		method = "unknown" // it would be a stranger's text in our page
	}
	s.pageWith(w, r, http.StatusNotImplemented, "Unsupported method ('"+method+"')")
}

var methods = map[string]struct{}{
	http.MethodGet: {}, http.MethodHead: {}, http.MethodPost: {}, http.MethodPut: {}, http.MethodPatch: {},
	http.MethodDelete: {}, http.MethodOptions: {}, http.MethodConnect: {}, http.MethodTrace: {},
}

func (s *Server) pageWith(w http.ResponseWriter, r *http.Request, code int, reason string) {
	s.write(w, r, code, pageType, fmt.Appendf(nil, `<!DOCTYPE HTML>
<html lang="en">
    <head>
        <meta charset="utf-8">
        <title>Error response</title>
    </head>
    <body>
        <h1>Error response</h1>
        <p>Error code: %d</p>
        <p>Message: %s.</p>
        <p>Error code explanation: %d - %s.</p>
    </body>
</html>
`, code, reason, code, explanations[code]))
}

// contentLength is the header's value; those of small answers are made once.
func contentLength(n int) []string {
	if n < len(lengths) {
		return lengths[n]
	}
	return []string{strconv.Itoa(n)}
}

var lengths = func() (all [4096][]string) {
	for i := range all {
		all[i] = []string{strconv.Itoa(i)}
	}
	return all
}()
