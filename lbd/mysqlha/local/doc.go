// Package local is what the agent on a database server's host does for its cluster: it watches the server's process, ends and starts it, cuts
// the host from a source, shuts the server's network, has the primary's address here, and makes the server a copy of another. Host does it (it implements
// mysqlha.Local), Remote asks the Host of another agent, and Serve answers.
//
// It leaves to others what is to be done (the runner of lbd/mysqlha, whose orders it takes and refuses by epoch and number), what the server says (a
// mysqlha.Server), how addresses and rules get into the kernel (lbd/vip, lbd/nft), and which clusters there are (node).
//
// # What is on disk
//
// One file for each cluster, Dir/<tag>.json: the highest order seen, whether the server may start, what it is cut from. It is written before
// an order is answered. A file that cannot be understood has every order refused until a person has looked: ErrDamaged says how.
//
// # What outlives the agent
//
// The server, which is started in a session of its own; the kernel's rules; the file. An agent that starts finds the process by its pid file, or by who runs
// in the datadir, watches it through a pidfd, as it would a child, and puts the rules of the file into the kernel. Where the agent runs
// under systemd, its unit must say KillMode=process, or the file of credentials start the server in a unit of its own:
//
//	start: [systemd-run, --collect, --unit=mariadb-shop, --uid=mysql, -p, KillMode=mixed, -p, Restart=no, -p, LimitNOFILE=65536, /usr/sbin/mariadbd, --defaults-file=/etc/mysql/shop.cnf]
//
// systemd-run returns at once; the process is then found by its datadir. The latter is better where the agent's unit has limits of memory. Nothing else may start
// the server: systemctl disable mariadb. A marked server that somebody starts all the same is killed again.
//
// # What starts by itself
//
// Nothing. A server that died is started by an order alone: whether as the primary, which keeps what nobody has acknowledged, or as a replica, which
// truncates it, only the record can say. There is one exception: a clone that was interrupted is finished, or the old data put back and started
// as the replica that it was.
package local
