"""The Text dock: the objects that look like a phrase, with how likely each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QToolButton, QWidget

from napari_samscape.errors import InputError
from napari_samscape.prediction.phrase import DISTRACTORS, THRESHOLD, Phrase
from napari_samscape.widgets.fields import Field, OptionFields, tip
from napari_samscape.widgets.objects import Answer, ObjectsDock, painted
from napari_samscape.widgets.task import Question, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QLayout

    from napari_samscape.prediction.types import Instances
    from napari_samscape.widgets.engine import Engine

FIELDS = (
    Field(
        "threshold",
        "Likelihood",
        "How likely a thing has to be what is said rather than something else, from 0 to 1. Where the model "
        "itself is asked, the least IoU that it predicts.",
    ),
    Field("top", "At most", "No more objects of a plane than this, the likeliest.", off=True),
)
WAYS = (
    ("text", "Everything, ranked", "Any model: find everything, and let CLIP compare it with the words."),
    ("prompts", "The model itself", "For models trained to take text: one object, at once."),
)


class ClipChooser(QWidget):
    """A line for a CLIP's name or folder, and a button that looks for a folder."""

    def __init__(self) -> None:
        super().__init__()
        self.line = QLineEdit()
        self.line.setPlaceholderText("a folder, or a name")
        self.line.setToolTip(
            tip(
                "The CLIP that knows what words look like, as the library transformers has it: a folder, or "
                "a name as openai/clip-vit-base-patch32, which is downloaded."
            )
        )
        button = QToolButton()
        button.setText("…")
        button.setToolTip(tip("Choose a folder."))
        button.clicked.connect(self._browse)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        row.addWidget(button)

    @property
    def name(self) -> str | None:
        """What is chosen, or None."""
        return self.line.text().strip() or None

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a CLIP's folder")
        if folder:
            self.line.setText(folder)


class TextWidget(ObjectsDock):
    """Find what looks like a phrase."""

    ready_text = "Say what to look for, and press Run."
    name = "by text"

    def build(self) -> Sequence[QWidget | QLayout]:
        """Make the lines for the words and the CLIP, and the options."""
        self.build_target()
        self.text = QLineEdit()
        self.text.setPlaceholderText("a striped cell")
        self.text.setToolTip(tip("What to look for, in words."))
        self.text.returnPressed.connect(self.run)
        self.clip = ClipChooser()
        self.others = QLineEdit("; ".join(DISTRACTORS))
        self.others.setToolTip(tip("What else things in the picture may be, with semicolons between."))
        self.way = QComboBox()
        self.way.setToolTip(tip("Who says what looks like the words."))
        for mode, label, about in WAYS:
            self.way.addItem(label, mode)
            self.way.setItemData(self.way.count() - 1, tip(about), 3)  # Qt's role of tooltips
        self.way.currentIndexChanged.connect(lambda: self.others.setEnabled(self.way.currentData() == "text"))
        self.options = OptionFields(FIELDS, Phrase("-", threshold=THRESHOLD))
        rows = (("Text", self.text), ("CLIP", self.clip), ("Not", self.others), ("Ask", self.way))
        form = self.where(*rows, ("Objects in", self.labels))
        return form, self.over, self.all_planes, self.options.rows(FIELDS)

    def question(self, engine: Engine, task: Task) -> Question:
        """Ask for what the words say."""
        if not self.text.text().strip():
            raise InputError("Say in words what to look for first.")
        if self.clip.name is None:
            raise InputError("Choose a CLIP first: a folder, or a name as openai/clip-vit-base-patch32.")
        others = [part.strip() for part in self.others.text().split(";") if part.strip()]
        phrase = Phrase(self.text.text().strip(), self.clip.name, others, **self.options.values())
        mode = self.way.currentData()
        return lambda pixels, progress: painted(engine.text(pixels, phrase, mode, progress))

    def columns(self, instances: Instances) -> dict[str, list]:
        """How likely each is, and the words."""
        words = self.text.text().strip()
        return {"score": [float(item.score) for item in instances], "text": [words for _ in instances]}

    def deliver(self, task: Task, answers: list[Answer]) -> str:
        """Write the objects, and count them."""
        words = self.text.text().strip()
        count = sum(item.area > 0 for answer in answers for item in answer.instances)
        if count == 0:
            text = f"Nothing was found that looks like '{words}'; a lower likelihood lets more pass."
            show_info(text)
            return text
        written = self.write(task, answers)
        where = f" on {len(answers)} planes" if len(answers) > 1 else ""
        return f"Found {count} of '{words}'{where}, now in '{written.labels.name}'."
