"""Vulnerabilities that are known of the pinned dependencies, by pip-audit: 1 if there are any, 3 if nothing could be asked.

pip-audit on its own says "No known vulnerabilities found" where it reached no data at all.
"""

import json
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Runs the pip-audit of this Python over constraints.txt."""
    command = [sys.executable, "-m", "pip_audit", "-r", "constraints.txt", "--no-deps", "--disable-pip"]
    done = subprocess.run([*command, "--format=json"], capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"NOT AUDITED: {done.stderr.strip()[-500:]}")
        return 3
    asked = [package for package in packages if "vulns" in package]
    found = [(package, each) for package in asked for each in package["vulns"]]
    for package, each in found:
        fixed = ", ".join(each["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {each['id']}, mended in {fixed}")
    if len(asked) < len(packages):
        print(f"NOT AUDITED: {len(packages) - len(asked)} of {len(packages)} packages: no data on them can be reached")
    else:
        print(f"{len(asked)} packages audited, {len(found)} vulnerabilities")
    return 1 if found else 3 * (len(asked) < len(packages))


if __name__ == "__main__":
    Path("constraints.txt").stat()  # at the repository's root
    sys.exit(main())
