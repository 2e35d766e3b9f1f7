"""Help texts whose options stand in sections, because `train` has many."""

import click

SECTIONS = {
    "Data": (
        "features", "labels", "weights", "groups", "validation", "missing_chunks", "nodata",
        "unlabelled", "normalize", "log1p", "storage_option",
    ),
    "Model": ("C", "l1_ratio", "scale", "no_intercept", "class_weight", "classes"),
    "Model selection": ("folds", "fold_column", "scoring", "validation_fraction"),
    "Training": ("solver", "tol", "max_iter", "n_iter_no_change", "dtype", "kernel"),
    "Engine": (
        "engine", "workers", "scheduler", "scheduler_file", "tls_ca_file", "tls_cert", "tls_key",
        "memory", "spool", "spool_limit",
    ),
}  # fmt: skip
"""Names of the options in each section. Other options stand in a last section, "Options"."""


class SectionedCommand(click.Command):
    """A command that lists its options by `SECTIONS`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        titles = {name: title for title, names in SECTIONS.items() for name in names}
        listed: dict[str, list[tuple[str, str]]] = {title: [] for title in (*SECTIONS, "Options")}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                listed[titles.get(param.name or "", "Options")].append(record)
        for title, records in listed.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
