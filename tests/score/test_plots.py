"Figures of odd tables"
import numpy as np, pandas as pd, pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from fundus_fastai.score.plots import plot_history

pytestmark = [pytest.mark.filterwarnings('error'), # no warning may be spilled, but for a pipe that another test's process left open
              pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]

def test_history_of_nothing_and_one_epoch():
    from matplotlib.figure import Figure
    for h in [pd.DataFrame(dict(epoch=[0], train_loss=[1.], valid_loss=[np.nan])), pd.DataFrame(dict(epoch=[0]))]:
        plot_history(h, ax=Figure().subplots()), plot_history(h, 'metrics', ax=Figure().subplots())

def test_a_notebook_shows_what_is_drawn_after_our_first_picture(monkeypatch):
    "The first picture loads the notebook's backend, which must not go with the style that the picture was drawn in"
    monkeypatch.delenv('MPLBACKEND', raising=False)
    ours = "from fundus_fastai.score.plots import drawing\nwith drawing(None, (2,2)) as ax: ax.plot([1,2])"
    nb = new_notebook(cells=[new_code_cell(o) for o in (ours, "import matplotlib.pyplot as plt\nplt.plot([2,1]);", ours)])
    NotebookClient(nb, timeout=120, kernel_name='python3').execute()
    assert [['image/png' in o.get('data', {}) for o in c.outputs if o.output_type=='display_data'] for c in nb.cells]==[[True]]*3

def test_pictures_of_numbers_refuse_other_answers():
    "As the scores of a class and a number, or of classes"
    from types import SimpleNamespace
    from fundus_fastai.core import EyeError
    from fundus_fastai.score.kinds import error_by_band
    from fundus_fastai.score.plots import plot_agreement, plot_numbers
    both = pd.DataFrame(dict(path=['a','b'], patient=['p','q'], sex=['f','m'], p_f=[.2,.6], age=[50.,60.], pred_age=[51.,66.]))
    for f in (plot_numbers, plot_agreement):
        with pytest.raises(EyeError, match='not of a number'): f(SimpleNamespace(preds=both, source=''))
    with pytest.raises(EyeError, match='columns target and pred'): error_by_band(both)

def test_a_picture_of_labels_refuses_other_answers():
    "It had been a KeyError of the first class, or of None"
    from fundus_fastai.core import DataError
    from fundus_fastai.score.plots import plot_label_scores
    from fundus_fastai.score.scores import score
    from made import class_table, labels_table, numbers_table
    for t,kind in ((class_table(),'category'), (numbers_table(),'number')):
        with pytest.raises(DataError, match=f'a {kind} has no f1 of each label'): plot_label_scores(score(t, n_boot=5), what='f1')
    with pytest.raises(DataError, match='has no auk of each label'): plot_label_scores(score(labels_table(), n_boot=5), what='auk')

def test_one_of_many_is_not_nothing():
    "249 of 250 were drawn as 100 %, and the one beside them as 0 %"
    from matplotlib.figure import Figure
    from fundus_fastai.score.plots import plot_confusion
    from fundus_fastai.score.scores import score
    p = np.r_[np.full(249, .9), .1, np.full(250, .1)]
    t = pd.DataFrame(dict(path=[f'{k}.png' for k in range(500)], patient=[f'p{k}' for k in range(500)], target=['b']*250+['a']*250, p_a=1-p, p_b=p))
    said = [o.get_text().split('\n')[0] for o in plot_confusion(score(t, n_boot=5), ax=Figure().subplots()).texts]
    assert said==['100 %','0 %','<1 %','>99 %']
