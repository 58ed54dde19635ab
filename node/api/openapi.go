package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// documentRefusals adds to an operation the answers that come before its handler, or from what it reads: nobody known,
// another site's page, names and parameters that cannot be.
func documentRefusals(_ *huma.OpenAPI, op *huma.Operation) {
	codes := []int{http.StatusUnauthorized}
	if op.Method != http.MethodGet {
		codes = append(codes, http.StatusForbidden)
	}
	if strings.Contains(op.Path, "{") {
		codes = append(codes, http.StatusBadRequest, http.StatusNotFound)
	}
	if len(op.Parameters) > 0 || op.RequestBody != nil {
		codes = append(codes, http.StatusUnprocessableEntity)
	}
	for _, code := range codes {
		if text := strconv.Itoa(code); op.Responses[text] == nil {
			op.Responses[text] = &huma.Response{
				Description: http.StatusText(code),
				Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/ErrorModel"}}},
			}
		}
	}
}
