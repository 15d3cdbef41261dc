"""Search the hyper-parameters of a recipe with Optuna, on one or many workers, and train the best config with several seeds.

    python recipes/search.py [CONFIG.yaml] [--field value ...] [--search.trials 35 ...]

The default is the search of the AST report (recipes/configs/ast_search.yaml). To search any config of
recipes/train_classifier.py, add a section `search` to it. Commands with the same output_dir (or search.storage) share the
trials, and the same command resumes a stopped search. After the search, run the final fit:

    python recipes/search.py CONFIG.yaml --search.final_fit

`--help` lists all fields; recipes/README.md says more.
"""

import sys
from pathlib import Path

from train_classifier import train_and_evaluate  # for the final fit

from hfmgc.training import stages
from hfmgc.training.check import check_recipe
from hfmgc.training.preparation import SharedData


try:
    from hfmgc.training.search.arguments import read_search
    from hfmgc.training.search.final_fit import final_fit, show_final_fit
    from hfmgc.training.search.results import save_results, save_table, show_results
    from hfmgc.training.search.space import read_space
    from hfmgc.training.search.study import open_storage, open_study, reporting_storage_errors
    from hfmgc.training.search.worker import search
except ModuleNotFoundError as missing:
    if missing.name != "optuna":
        raise
    raise SystemExit('error: a search needs Optuna: pip install -e ".[search]"') from None


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "ast_search.yaml"


def main(default_config: Path = DEFAULT_CONFIG) -> None:
    """Run all stages."""
    # Settings
    recipe, arguments = read_search(sys.argv[1:], default_config)
    groups = recipe.groups()
    folder = Path(groups[2].output_dir)
    url = open_storage(arguments, groups).url  # fails now, not after preparing the data, if the storage is unusable

    # Space
    parameters = read_space(arguments.space, recipe)
    print(f"search: {arguments.trials} trials of {', '.join(arguments.space)}")

    # Data, prepared once for all trials of this worker
    shared = SharedData(groups[2].seed)
    checked = check_recipe(groups)
    data = shared(*checked.groups[1:], checked.extractor)
    stages.announce(groups[2], data)

    with reporting_storage_errors(url):
        # Study, shared with the other workers
        study = open_study(recipe, arguments, data)

        # Trials
        try:
            outcomes = search(study, recipe, arguments, parameters, shared)
        finally:
            save_table(study, recipe, parameters)

        # Save: best config, plots, record
        chosen = save_results(study, outcomes, recipe, arguments, parameters, data)
        show_results(study, outcomes, parameters, folder)

    # Final fit
    if arguments.final_fit:
        result = final_fit(recipe, chosen, arguments.final_seeds, train_and_evaluate)
        if groups[2].should_save:
            show_final_fit(result, folder)


if __name__ == "__main__":
    stages.run_recipe(main, resume_hint="the same command resumes")
