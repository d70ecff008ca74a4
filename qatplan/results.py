"""What the API hands out: results that show themselves as text, in a notebook, as a dictionary, as a table."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

    from qatplan.fitting.compare import Comparison as ComparedLaws
    from qatplan.fitting.split.score import SplitComparison as ComparedSplits
    from qatplan.importing.importer import Imported as ImportedTable
    from qatplan.laws.fitted import FittedLaw
    from qatplan.laws.law import Law as AnyLaw
    from qatplan.models.memory import Memory as ItemisedMemory
    from qatplan.planning.fraction_only import FractionAdvice
    from qatplan.planning.next_runs.design import Design as NextRuns
    from qatplan.planning.prediction import Prediction as PredictedLoss
    from qatplan.planning.recommend import Recommendation
    from qatplan.runs.summary import Summary
    from qatplan.wording.sections import Section


class Result(ABC):
    """Something with words: its repr is the short text, a notebook shows the same as HTML."""

    @abstractmethod
    def sections(self, *, details: bool = False) -> list[Section]:
        """What it says, in titled sections; `details` leaves nothing out."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the command of the same name: plain types, missing values as None."""

    def text(self, *, details: bool = False) -> str:
        """What it says, as plain text of 80 columns."""
        from qatplan.wording.text import to_text

        return to_text(self.sections(details=details), more="text(details=True)")

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from qatplan.wording.html import to_html

        return to_html(self.sections())


@dataclass(frozen=True, repr=False, eq=False)
class Runs(Result):
    """A sound table of runs, one a row; the columns are those of `qatplan.runs.FIELDS`."""

    table: pa.Table
    sources: tuple[str, ...] = ()
    """Files and folders that it was read from."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that was measured about the models; row order does not matter."""
        from qatplan import runs

        return runs.digest(self.table)

    @property
    def summary(self) -> Summary:
        """What the table spans."""
        from qatplan.runs.summary import summarise

        return summarise(self.table)

    def select(self, rows: str) -> Runs:
        """The runs where an expression is true, such as `bits in (2, 4) and seed == 0`."""
        from qatplan import runs

        return Runs(runs.select(self.table, rows), self.sources)

    def to_frame(self) -> pd.DataFrame:
        """A pandas table with our column names; missing values are NaN or None."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file, whole or not at all."""
        from qatplan import runs

        runs.write(self.table, path)

    def sections(self, *, details: bool = False) -> list[Section]:
        """What the table spans."""
        from qatplan.wording.runs import summary_sections

        return summary_sections(self.summary)

    def as_dict(self) -> dict[str, Any]:
        """The summary and the digest."""
        from dataclasses import asdict

        return {**asdict(self.summary), "digest": self.digest}


@dataclass(frozen=True, repr=False, eq=False)
class Imported(Result):
    """What became of somebody's table."""

    imported: ImportedTable

    @property
    def runs(self) -> Runs:
        """The rows that can be used."""
        return Runs(self.imported.table)

    def sections(self, *, details: bool = False) -> list[Section]:
        """What was used, assumed and left out."""
        from qatplan.wording.imported import import_sections

        return import_sections(self.imported)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan import` but for the file."""
        from qatplan import runs

        made = self.imported
        return {
            "origin": made.origin, "rows_read": made.rows_read, "rows_written": made.table.num_rows,
            "rejected": made.rejected, "suspect": made.suspect, "notes": made.notes, "mapping": made.mapping,
            "evidence": made.evidence,
            "unused_columns": made.unused_columns, "digest": runs.digest(made.table),
        }  # fmt: skip


@dataclass(frozen=True, repr=False, eq=False)
class Law(Result):
    """A law before any fit: its formula and its parameters."""

    kind: type[AnyLaw]

    def sections(self, *, details: bool = False) -> list[Section]:
        """The formula, its domain and source, and what each parameter means."""
        from qatplan.wording.laws import law_section

        return [law_section(self.kind, parameters=True)]

    def as_dict(self) -> dict[str, Any]:
        """The law's part of the JSON object of `qatplan laws`."""
        from qatplan.wording.laws import law_object

        return law_object(self.kind)


@dataclass(frozen=True, repr=False, eq=False)
class Fit(Result):
    """A fitted law with its certificate, its uncertainty and what it does not know."""

    fitted: FittedLaw
    path: Path | None = None
    """The file that it was loaded from."""

    @property
    def params(self) -> dict[str, float]:
        """Parameter values by name."""
        return self.fitted.params

    @property
    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """Confidence interval of each parameter."""
        return self.fitted.intervals

    @property
    def trustworthy(self) -> bool:
        """Whether the certificate holds."""
        return self.fitted.status == "good"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file, whole or not at all."""
        self.fitted.write(Path(path))

    def plot(self, kind: str, runs: Runs | None = None, *, rows: str | None = None, **request: Any) -> Figure:
        """A figure of the fit, beside `runs` or those that it names; `qatplan.plot` describes kinds and options.

        Counts in `request` are numbers here.
        """
        from qatplan.figures.make import Request, draw

        table = None if runs is None else runs.table
        asked = Request(**request)
        return draw(kind, fitted=self.fitted, path=self.path, table=table, rows=rows, request=asked).figure

    def __repr__(self) -> str:
        from qatplan.wording.fit import short_sections
        from qatplan.wording.text import to_text

        return to_text(short_sections(self.fitted), more="text(details=True)")

    def sections(self, *, details: bool = False) -> list[Section]:
        """The parameters, how sure they are, and what stands against them."""
        from qatplan.wording.fit import fit_sections

        return fit_sections(self.fitted, details=details)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that `save` writes."""
        return self.fitted.to_json()


@dataclass(frozen=True, repr=False, eq=False)
class Comparison(Result):
    """Laws in order of their error on runs that they were not fitted to."""

    compared: ComparedLaws

    def sections(self, *, details: bool = False) -> list[Section]:
        """The ranking, and what it rests on."""
        from qatplan.wording.compare import compare_sections

        return compare_sections(self.compared, details=details)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan compare`."""
        from qatplan.wording.compare import compare_object

        return compare_object(self.compared)

    def to_frame(self) -> pd.DataFrame:
        """A row a law, best first; errors as shares of the loss."""
        import pandas as pd

        return pd.DataFrame(self.as_dict()["entries"])


@dataclass(frozen=True, repr=False, eq=False)
class SplitComparison(Result):
    """What the QAT fraction of each law and rule costs on measured curves that its fit did not see."""

    compared: ComparedSplits

    def sections(self, *, details: bool = False) -> list[Section]:
        """The rankings by cell and by rolling origin, and what they rest on."""
        from qatplan.wording.split import split_sections

        return split_sections(self.compared, details=details)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan compare --score split`."""
        from qatplan.wording.split import split_object

        return split_object(self.compared)

    def to_frame(self) -> pd.DataFrame:
        """A row for each law or rule and curve; `way` says how the curve was held out, `regret` is nats per token."""
        import pandas as pd

        ways = (*self.compared.schemes, self.compared.in_sample)
        return pd.DataFrame(
            {"way": w.way, "name": e.name, "kind": e.kind, **vars(s)} for w in ways for e in w.entries for s in e.scores
        )


@dataclass(frozen=True, repr=False, eq=False)
class Prediction(Result):
    """The loss of one run."""

    predicted: PredictedLoss

    def sections(self, *, details: bool = False) -> list[Section]:
        """The loss with its intervals, and how far it is from what was measured."""
        from qatplan.wording.prediction import prediction_sections

        return prediction_sections(self.predicted)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan predict`."""
        return self.predicted.as_dict()


@dataclass(frozen=True, repr=False, eq=False)
class Plan(Result):
    """What to train, what it beat, what it rests on."""

    advice: Recommendation | FractionAdvice

    @property
    def trustworthy(self) -> bool:
        """Whether the plan may be relied upon."""
        return self.advice.status.trustworthy

    def sections(self, *, details: bool = False) -> list[Section]:
        """The plan in one sentence, how sure it is, and its alternatives."""
        from qatplan.wording.plan import plan_sections

        return plan_sections(self.advice, details=details)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan recommend`."""
        return self.advice.as_dict()

    def to_frame(self) -> pd.DataFrame:
        """A row a bit width, the choice first; columns are the keys of the JSON object's `choice`.

        `params`, `params_in_law` are counts, `tokens`, `fp_tokens`, `qat_tokens` tokens, `fraction` and the
        probabilities shares of 1, `loss` nats per token (missing from the fraction law), `memory_bytes` bytes, `flops`
        FLOPs; ends of intervals are `loss_low`, `loss_high`, `fraction_low`, `fraction_high`.
        """
        import pandas as pd

        rows = []
        for option in self.advice.options:
            row: dict[str, Any] = {}
            for name, value in option.as_dict().items():
                stem, interval, _ = name.partition("_interval")
                low, high = (value or (None, None)) if interval else (None, None)
                row |= {f"{stem}_low": low, f"{stem}_high": high} if interval else {name: value}
            rows.append(row)
        return pd.DataFrame(rows)

    def export(
        self,
        tool: str,
        out: str | os.PathLike[str],
        *,
        batch_tokens: float,
        learning_rate: float | None = None,
        qat_learning_rate: float | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the plan as a training recipe for torchao, paretoq, torchtitan or yaml, in steps of `batch_tokens`.

        Raises UsageError for what a tool cannot hold, and for a file that exists unless `overwrite`, and NotTrustworthy
        for a plan whose numbers are withheld.
        """
        from qatplan.errors import NotTrustworthy, UsageError
        from qatplan.planning.recipes.export import export
        from qatplan.planning.recommend import Recommendation

        distance = self.advice.extrapolation
        if distance is not None and distance.withheld:
            raise NotTrustworthy(
                f"no recipe is written: the plan is {self.advice.status.message}.", evidence=self.advice
            )
        if isinstance(plan := self.advice, Recommendation) and not plan.choice.plan.quantized:
            raise UsageError(f"no recipe is written: the plan at {plan.choice.plan.bits:g} bits has no QAT phase.")
        export(
            self.advice, tool, Path(out), batch_tokens=batch_tokens, learning_rate=learning_rate,
            qat_learning_rate=qat_learning_rate, overwrite=overwrite,
        )  # fmt: skip


@dataclass(frozen=True, repr=False, eq=False)
class Design(Result):
    """Runs to make next, and what they buy."""

    design: NextRuns

    def sections(self, *, details: bool = False) -> list[Section]:
        """The runs, and the uncertainty that they leave."""
        from qatplan.wording.design import design_sections

        return design_sections(self.design, details=details)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan design`."""
        return self.design.as_dict()

    def to_frame(self) -> pd.DataFrame:
        """A row a run to make, in order."""
        import pandas as pd

        return pd.DataFrame(self.as_dict()["runs"])


@dataclass(frozen=True, repr=False, eq=False)
class Memory(Result):
    """The bytes that a model takes, item by item."""

    estimated: ItemisedMemory

    @property
    def total_bytes(self) -> int:
        """All items together."""
        return self.estimated.total_bytes

    def sections(self, *, details: bool = False) -> list[Section]:
        """The items as a table."""
        from qatplan.wording.memory import memory_sections

        return memory_sections(self.estimated)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan memory`."""
        return self.estimated.as_dict()
