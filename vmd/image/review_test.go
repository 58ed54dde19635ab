package image

import "testing"

// TestReviewURLsOfTheBoxItself: agents of boxes fetch what an entry of the catalogue names, as root and from within. Who may write
// an image reads what comes by booting it.
func TestReviewURLsOfTheBoxItself(t *testing.T) {
	for _, url := range []string{
		"http://169.254.169.254/latest/meta-data/iam/security-credentials/", "http://[fe80::1]/x", "http://127.0.0.1:7950/api/v1/status",
		"http://[::1]:2379/v2/keys", "http://[::ffff:169.254.169.254]/", "http://0.0.0.0:7950/",
	} {
		if err := CheckURL(url); err == nil {
			t.Errorf("%s is taken (and nothing refuses such an address when it is dialled)", url)
		}
	}
}
