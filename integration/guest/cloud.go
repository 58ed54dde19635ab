package guest

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed cloud.sh
var cloudScript string

// CloudDisk returns the disk of a cloud image, a qcow2 file of 1 GiB: Debian, which boots by its own loader, and has
// cloud-init and an sshd. It is made at the first call on this account, or anew, which takes a minute or two, root, apt, its
// mirror, mmdebstrap, fdisk and qemu-img. Who uses it does not change it.
func CloudDisk(anew bool) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir() // an account without a home
	}
	dir := filepath.Join(cache, "hostmesh-test", fmt.Sprintf("guest-cloud-%.4x", sha256.Sum256([]byte(cloudScript))))
	if anew {
		if err := os.RemoveAll(dir); err != nil {
			return "", fmt.Errorf("make a cloud image: %w", err)
		}
	}
	if out, err := exec.Command("bash", "-c", cloudScript, "cloud.sh", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make a cloud image: %w\n%s", err, out)
	}
	return filepath.Join(dir, "disk.qcow2"), nil
}
