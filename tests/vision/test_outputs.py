"Outputs: weights of rare labels, odd configs"
import numpy as np, pandas as pd, pytest
from fundus_fastai.vision.outputs import LabelsOutput, output_from, label_weights
from fundus_fastai.core import DataError, ModelError

def test_weight_of_an_image_is_that_of_its_rarest_label():
    y = np.zeros((100,3), int); y[:60,0] = 1; y[:5,1] = 1; y[60:80,2] = 1 # 20 have none
    w = label_weights(y)
    assert w[0]==pytest.approx(12*w[10]) and w[70]==pytest.approx(w[90]) and w.mean()==pytest.approx(1)

@pytest.mark.parametrize('bad', [dict(kind='x'), dict(names=[]), dict(names='ab'), dict(names=['a','a']), dict(spread=0), dict(spread='1'),
                                 dict(center=None), dict(center=1e12), dict(names=[1,2])])
def test_a_config_with_an_odd_answer(bad):
    good = dict(kind='number', names=['age'], center=60., spread=10.)
    assert output_from(good).names==['age']
    with pytest.raises(ModelError): output_from({**good, **bad})

def test_gaps_and_words_in_a_label_are_named_and_labels_left_out_are_not_asked():
    df,o = pd.DataFrame(dict(N=[1,0,np.nan], D=[0,1,1], O=[0,0,1], C=['no','yes','no'])),LabelsOutput(['N','D','O'])
    with pytest.raises(DataError, match='1 in N'): o.check(df)
    with pytest.raises(DataError, match="'C' is to hold 0 and 1, and holds no, yes"): LabelsOutput(['D','C']).check(df)
    df.attrs['labels'] = ('D','O')
    for names in ('NDO','CDO','DOX'):
        o = LabelsOutput([*names])
        o.check(df)
        assert o.truth(df).columns.tolist()==['target_D','target_O'] and o.asked(df)==['D','O']
