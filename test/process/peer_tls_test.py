#!/usr/bin/python3
"""Nodes that speak TLS to each other: a cluster of them, who is kept out, and certificates that are replaced."""
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import unittest

CLIENT, CERTIFY = sys.argv.pop(2), sys.argv.pop(2)

from cluster_test import HOST, ClusterTest, free_ports  # noqa: E402: it reads the arguments too.


class TlsTest(ClusterTest):
    """`ca` is the directory of the cluster's authority."""

    def setUp(self):
        super().setUp()
        self.ca = self.make_authority("ca")

    def make_authority(self, name):
        directory = os.path.join(self.folder, name)
        subprocess.run([CLIENT, "ca", "init", directory], check=True, stdout=subprocess.DEVNULL)
        return directory

    def issue(self, name, directory=None):
        subprocess.run([CLIENT, "ca", "issue", directory or self.ca, name], check=True,
                       stdout=subprocess.DEVNULL)

    def certify(self, name, begin, end, role="node"):
        """Valid from and until so many days from now."""
        subprocess.run([CERTIFY, self.ca, name, role, str(int(begin * 86400)), str(int(end * 86400))],
                       check=True)
        os.chmod(f"{self.ca}/{name}.key", 0o600)

    def tls(self, name, directory=None, authority=None):
        """The flags of a node that shows this certificate."""
        directory = directory or self.ca
        return ["--peer-tls-cert-file", f"{directory}/{name}.crt",
                "--peer-tls-key-file", f"{directory}/{name}.key",
                "--peer-tls-ca-file", f"{authority or directory}/ca.crt"]

    def start_tls(self, number, seeds=None):
        name = f"n{number}"
        if not os.path.exists(f"{self.ca}/{name}.crt"):
            self.issue(name)
        return self.start_node(number, *self.tls(name), seeds=seeds)

    def reload(self, node):
        """Until it has been done."""
        before = node.log.count("event=config.reloaded")
        node.process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: node.log.count("event=config.reloaded") > before)

    def context(self, name=None, server=False):
        """A peer that is no node, and looks at nothing."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if name is not None:
            context.load_cert_chain(f"{self.ca}/{name}.crt", f"{self.ca}/{name}.key")
        return context

    def shown(self, number, name):
        """The fingerprint of what a node shows to who shows it `name`."""
        with socket.create_connection((HOST, self.peers[number])) as plain:
            with self.context(name).wrap_socket(plain) as connection:
                shown = hashlib.sha256(connection.getpeercert(True)).hexdigest()
                hello = connection.recv(64)
                self.assertIn(b"tripeer\n", hello)
        return shown

    def fingerprint(self, name):
        shown = subprocess.run([CLIENT, "--json", "ca", "show", f"{self.ca}/{name}.crt"], check=True,
                               stdout=subprocess.PIPE)
        return json.loads(shown.stdout)["certificates"][0]["sha256"].replace(":", "").lower()


class Life(TlsTest):
    def test_a_cluster_forms_over_tls_serves_and_survives_a_kill(self):
        self.peers = free_ports(3)
        for number in range(3):
            self.start_tls(number, seeds=(0,))
        self.wait_until_whole()
        for number in range(3):
            self.assertRegex(self.nodes[number].log,
                             r'event=peer\.connected .*certificate="CN=n[012]"')
        for number in range(20):
            self.assertEqual(self.write(self.nodes[number % 3], f"word {number}", number)[0], 201)
            self.assertEqual(self.read(self.nodes[(number + 1) % 3], f"word {number}"), number)
        lines = "".join(f"bulk {number}\t{number}\n" for number in range(3000)).encode()
        status, _, body = self.nodes[1].ask(
            "POST", "/api/v1/import?ns=test&consistency=all", lines,
            [("Content-Type", "text/tab-separated-values")])
        self.assertEqual((status, json.loads(body)["imported"]), (200, 3000))
        self.kill(2)
        for number in range(20):
            self.assertEqual(self.write(self.nodes[number % 2], f"word {number}", -number)[0], 200)
        node = self.start_tls(2, seeds=())
        self.wait_for(lambda: self.write(node, "again", 1, "all")[0] < 300)
        self.assertEqual(self.read(node, "word 7"), -7)
        for number in range(3):
            self.assertIn('peer.certificate certificate="CN=n', self.nodes[number].log)
            self.assertEqual(self.nodes.pop(number).stop(), 0)


class Strangers(TlsTest):
    """One node, which others try to reach, or are reached by."""

    def setUp(self):
        super().setUp()
        self.peers = free_ports(2)

    def refused_by(self, node, words):
        self.wait_for(lambda: "event=peer.refused" in node.log and words in node.log)

    def test_a_node_of_another_authority_is_refused_and_both_say_why(self):
        node = self.start_tls(0, seeds=(0,))
        self.issue("foreign", self.make_authority("other"))
        other = self.start_node(1, *self.tls("foreign", os.path.join(self.folder, "other"), self.ca),
                                seeds=(0,))
        self.nodes.pop(1)
        # Its own certificate is none that it would take from others: it does not even start.
        self.assertIsNone(other.port)
        self.assertEqual(other.ended(), 1)
        self.assertIn("which is none of the authorities", other.log)
        stranger = self.start_node(1, *self.tls("foreign", os.path.join(self.folder, "other")),
                                   seeds=(0,))
        self.refused_by(node, "the peer refuses this node: unknown CA")
        self.refused_by(stranger, "the peer's certificate: CN=n0 was issued by 'CN=trifecta authority")
        self.assertEqual(stranger.ask("GET", "/ready")[0], 503)
        self.assertEqual(len(node.get("/nodes")[1]["nodes"]), 1)

    def test_a_node_without_tls_is_refused_and_both_say_why(self):
        node = self.start_tls(0, seeds=(0,))
        stranger = self.start_node(1, seeds=(0,))
        self.refused_by(node, "the peer speaks without TLS")
        self.refused_by(stranger, "the peer speaks TLS, and this node was given no certificate")
        self.assertEqual(len(node.get("/nodes")[1]["nodes"]), 1)

    def test_a_node_with_tls_takes_none_without_for_its_cluster(self):
        node = self.start_node(0, seeds=(0,))
        stranger = self.start_tls(1, seeds=(0,))
        self.refused_by(node, "the peer speaks TLS, and this node was given no certificate")
        self.refused_by(stranger, "the peer speaks without TLS")
        self.assertEqual(len(node.get("/nodes")[1]["nodes"]), 1)

    def test_a_node_without_tls_dials_nobody_beyond_loopback(self):
        node = self.start_node(0, "--join", "192.0.2.1:7400", seeds=())
        self.refused_by(node, 'address=192.0.2.1:7400 by=us why="it is beyond loopback')

    def test_certificates_that_have_expired_or_are_no_nodes_are_refused(self):
        self.certify("expired", -10, -0.01)
        self.certify("early", 1, 10)
        self.certify("client", -1, 10, "client")
        self.certify("good", -1, 10)
        node = self.start_tls(0, seeds=(0,))
        self.shown(0, "good")
        for name, why in (("expired", "the peer's certificate: CN=expired has expired"),
                          ("early", "the peer's certificate: CN=early is not valid yet"),
                          ("client", "the peer's certificate: CN=client is not for nodes"),
                          (None, "the peer shows no certificate")):
            # Of strangers there is a line a second.
            self.wait_for(lambda name=name, why=why: self.intrude(name) and why in node.log)

        # It dials as well: whoever is where its seed should be.
        self.peers[0] = free_ports(1)[0]
        with socket.create_server((HOST, self.peers[0])) as server:
            dialler = self.start_tls(1, seeds=(0,))
            with server.accept()[0] as plain, self.assertRaises(ssl.SSLError):
                self.context("expired", True).wrap_socket(plain, server_side=True).recv(64)
            self.refused_by(dialler, "the peer's certificate: CN=expired has expired")

    def intrude(self, name):
        """Shows a certificate that does not count, says something all the same, and is shut out."""
        with socket.create_connection((HOST, self.peers[0])) as plain:
            with self.context(name).wrap_socket(plain) as connection:
                connection.sendall(b"anything")
                with self.assertRaises(ssl.SSLError):
                    connection.recv(64)
        return True


class Files(TlsTest):
    def refuse(self, *flags):
        server = self.start_node(0, *flags, seeds=(0,))
        self.nodes.pop(0)
        self.assertIsNone(server.port, server.log)
        return server.ended(), server.log

    def test_a_certificate_that_does_not_fit_stops_the_start(self):
        self.peers = free_ports(1)
        self.certify("expired", -10, -0.01)
        for name in ("a", "b"):
            self.issue(name)
        open(f"{self.ca}/broken.crt", "w", encoding="ascii").close()
        shutil.copy(f"{self.ca}/a.key", f"{self.ca}/broken.key")
        shutil.copy(f"{self.ca}/a.crt", f"{self.ca}/swapped.crt")
        shutil.copy(f"{self.ca}/b.key", f"{self.ca}/swapped.key")
        for name, why in (("expired", "expired.crt: CN=expired has expired: it was valid until 20"),
                          ("broken", "broken.crt: expected certificates in PEM"),
                          ("swapped", "swapped.key: expected the key of the certificate in /"),
                          ("missing", "missing.crt: cannot be read: No such file or directory")):
            code, log = self.refuse(*self.tls(name))
            self.assertEqual(code, 1)
            self.assertIn("event=peer.certificate_refused", log)
            self.assertIn(why, log)
            self.assertNotIn("store.opened", log)
        code, log = self.refuse(*self.tls("a")[:4])
        self.assertEqual(code, 2)
        self.assertIn("together with peer_tls_key_file and peer_tls_ca_file", log)

    def test_certificates_are_replaced_while_it_runs(self):
        self.peers = free_ports(2)
        self.certify("n0", -10, 10)
        node = self.start_tls(0, seeds=(0,))
        self.issue("watcher")
        first = self.fingerprint("n0")
        self.assertEqual(self.shown(0, "watcher"), first)
        other = self.start_tls(1, seeds=(0,))
        self.wait_for(lambda: len(node.get("/nodes")[1]["nodes"]) == 2)

        # A broken one keeps the old one.
        key = f"{self.ca}/n0.key"
        os.rename(key, key + ".old")
        self.reload(node)
        self.assertRegex(node.log, r"level=error event=peer\.certificate_kept reason=\S*/n0\.key: cann"
                                   r"|event=peer\.certificate_kept reason=\".*/n0\.key: cannot be read")
        self.assertEqual(self.shown(0, "watcher"), first)

        # A new one that is about to end is taken, and warned of at the next start.
        self.certify("n0", -40, 5)
        self.reload(node)
        second = self.fingerprint("n0")
        self.assertNotEqual(second, first)
        self.assertEqual(self.shown(0, "watcher"), second)
        self.assertNotIn("event=peer.key_is_open", node.log)
        os.chmod(key, 0o640)
        self.reload(node)
        self.assertRegex(node.log, r"level=warn event=peer\.key_is_open file=\S*/n0\.key")

        # The nodes went on over the connection that they had, and find each other with the new one.
        self.assertNotIn("event=peer.lost", other.log)
        self.nodes.pop(0).stop()
        node = self.start_tls(0, seeds=())
        self.wait_for(lambda: "event=peer.certificate_ends certificate=\"CN=n0\"" in node.log)
        self.wait_for(lambda: self.write(node, "together", 1, "all")[0] < 300)


if __name__ == "__main__":
    unittest.main()
