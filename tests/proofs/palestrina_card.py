"""Fill in what docs/music.md and the model's card say of the Palestrina model, from its files.

    python tests/proofs/palestrina_card.py RUN EVALUATION

RUN is the folder of `train --config palestrina`; EVALUATION what

    musegan-jax evaluate --model palestrina --noise --out EVALUATION

wrote, after `export RUN --out musegan_jax/assets/palestrina.safetensors`. It writes
`musegan_jax/assets/palestrina.md`, and in `docs/music.md` what lies between `<!-- palestrina -->`
and `<!-- /palestrina -->`. What the answers sound like is for a person to say, in the lines below.
"""

import json
import sys
from pathlib import Path

from musegan_jax.models import model_file

ROOT = Path(__file__).resolve().parents[2]
ASSET = ROOT / "musegan_jax" / "assets" / "palestrina"
BEGIN, END = "<!-- palestrina -->", "<!-- /palestrina -->"
COLUMNS = ("model", "noise", "copied", "random")

CARD = Path(__file__).with_suffix(".md").read_text()


def table(found: dict) -> str:
    """The rows of harmony, and a summary of the bars, as Markdown."""
    columns = [c for c in COLUMNS if c in found["harmony"]["chord"]["scores"]]
    lines = [
        f"{found['pieces']} movements of the split `{found['split']}`, "
        f"{found['flavours']} flavours each.",
        "",
        f"| measure | Palestrina | noise floor | {' | '.join(columns)} |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for name, row in found["harmony"].items():
        cells = [f"{row['scores'][c]:.3f}" for c in columns]
        lines.append(
            f"| {name} | {row['held_out']:.3f} | {row['noise_floor']:.3f} | {' | '.join(cells)} |"
        )
    near = {c: 0 for c in columns}
    counted = [row for row in found["measures"].values() if row["noise_floor"]]
    for row in counted:
        for c in columns:
            near[c] += abs(row["scores"][c] - row["held_out"]) <= 1.5 * row["noise_floor"]
    cells = [f"{near[c]} of {len(counted)}" for c in columns]
    lines.append(f"| measures of bars within 1.5 noise floors | | | {' | '.join(cells)} |")
    distances = found["frechet_distance"]
    cells = [f"{distances[c]:.2f}" if c in distances else "" for c in columns]
    own = f"{distances['training']:.2f}"
    lines.append(f"| Fréchet distance (training: {own}) | | | {' | '.join(cells)} |")
    lines.append(f"\nDiversity of flavours {found['diversity']['model']:.2f}.")
    return "\n".join(lines)


def main() -> None:
    """See the top of the file."""
    run, evaluation = map(Path, sys.argv[1:3])
    record = json.loads((run / "run.json").read_text())
    found = json.loads((evaluation / "metrics.json").read_text())
    path = ASSET.with_suffix(".safetensors")
    model = model_file.load(path)
    import hashlib

    import jax

    from musegan_jax.data import sources

    data = sources.load("palestrina")
    config, session = record["config"], record["sessions"][-1]
    sizes = [leaf.size for leaf in jax.tree.leaves(model.variables["params"])]
    rows = table(found)
    ASSET.with_suffix(".md").write_text(
        CARD.format(
            megabytes=path.stat().st_size / 1e6,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            parameters=sum(sizes),
            pitches=config["model"]["pitches"],
            lowest=config["model"]["lowest_pitch"],
            train=len(data.pieces_of(("train",))),
            pieces=len(data.names),
            down=config["data"]["transpose"][0],
            up=config["data"]["transpose"][1],
            dataset=record["dataset"]["sha256"],
            seed=record["seed"],
            iterations=record["result"]["iteration"],
            minutes=_minutes(run),
            software=f"commit `{session['commit'][:7]}`, Python {session['python']}, "
            f"jax {session['packages']['jax']}",
            fingerprint=record["result"]["fingerprint"]["state"],
            table=rows,
        )
    )
    page = ROOT / "docs" / "music.md"
    text = page.read_text()
    first, rest = text.split(BEGIN)
    _, last = rest.split(END)
    page.write_text(f"{first}{BEGIN}\n{rows}\n{END}{last}")


def _minutes(run: Path) -> float:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return max(json.loads(line).get("seconds", 0) for line in lines) / 60


if __name__ == "__main__":
    main()
