"""The audit of the pinned dependencies for known vulnerabilities, by pip-audit.

The exit code is 1 if there are vulnerabilities, and 3 if the data on vulnerabilities is incomplete or unreachable.
Without this script, pip-audit reports "No known vulnerabilities found" even if it reached no data at all.
"""

import json
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run pip-audit on constraints.txt and return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "-r", "constraints.txt", "--no-deps", "--disable-pip"]
    done = subprocess.run([*command, "--format=json"], capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"NOT AUDITED: {done.stderr.strip()[-500:]}")
        return 3
    audited = [package for package in packages if "vulns" in package]
    vulnerabilities = [(package, vulnerability) for package in audited for vulnerability in package["vulns"]]
    for package, vulnerability in vulnerabilities:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    if len(audited) < len(packages):
        print(f"NOT AUDITED: {len(packages) - len(audited)} of {len(packages)} packages: no data on them is available")
    else:
        print(f"{len(audited)} packages audited, {len(vulnerabilities)} vulnerabilities")
    return 1 if vulnerabilities else 3 * (len(audited) < len(packages))


if __name__ == "__main__":
    Path("constraints.txt").stat()  # fails outside the repository's root
    sys.exit(main())
