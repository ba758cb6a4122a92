"""Package facts live in settings.ini; this file hands them to setuptools."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def lines(text: str) -> list[str]:
    """Return the non-empty lines of a multi-line settings.ini value."""
    return [line.strip() for line in text.splitlines() if line.strip()]


parser = ConfigParser(delimiters=["="], interpolation=None)
parser.read(HERE / "settings.ini", encoding="utf-8")
facts = parser["DEFAULT"]

first_minor, last_minor = (int(facts[key].split(".")[1]) for key in ("min_python", "max_python"))
notebooks = f"{facts['lib_name']}.notebooks"
extras = {name: lines(facts[f"{name}_requirements"]) for name in facts["extras"].split()}
extras["all"] = [line for name, needs in extras.items() if name != "gpu" for line in needs]
extras["dev"] = extras["all"] + lines(facts["dev_requirements"])

setup(
    name=facts["lib_name"],
    version=facts["version"],
    description=facts["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=facts["keywords"].split(),
    author=facts["author"],
    license=facts["license"],
    license_files=["LICENSE"],
    classifiers=[
        f"Development Status :: {facts['status']} - Alpha",
        f"Intended Audience :: {facts['audience']}",
        f"Natural Language :: {facts['language']}",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(first_minor, last_minor + 1)),
    ],
    python_requires=f">={facts['min_python']}",
    install_requires=lines(facts["requirements"]),
    extras_require=extras,
    entry_points={"console_scripts": lines(facts["console_scripts"])},
    # The chapters are the stages that run, so they travel in the wheel as package data.
    packages=[*find_packages(include=["spectramind_nb*"]), "spectramind_nb.data", notebooks],
    package_dir={notebooks: "nbs"},
    package_data={
        "spectramind_nb": ["py.typed", "dashboard/template.html"],
        "spectramind_nb.configs": ["*.yaml", "*/*.yaml"],
        "spectramind_nb.data": ["*.npz", "*.safetensors", "README.md", "CHECKSUMS"],
        notebooks: ["[0-9]*.ipynb"],
    },
    zip_safe=False,
)
