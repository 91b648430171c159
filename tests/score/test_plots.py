"Figures of odd tables"
import numpy as np, pandas as pd, pytest
from fundus_fastai.score.plots import plot_history

pytestmark = [pytest.mark.filterwarnings('error'), # no warning may be spilled, but for a pipe that another test's process left open
              pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]

def test_history_of_nothing_and_one_epoch():
    from matplotlib.figure import Figure
    for h in [pd.DataFrame(dict(epoch=[0], train_loss=[1.], valid_loss=[np.nan])), pd.DataFrame(dict(epoch=[0]))]:
        plot_history(h, ax=Figure().subplots()), plot_history(h, 'metrics', ax=Figure().subplots())
