"What carriers refuse when they are made, and what they take from numpy and torch"
import numpy as np, pytest, torch
from fundus_fastai.core import DataError
from fundus_fastai.options import CompareOptions, DeviceOptions, TrainOptions

@pytest.mark.parametrize('kw', [dict(epochs='5'), dict(epochs=2.5), dict(freeze_epochs=None), dict(size='224'),
                                dict(size=(224,224)), dict(bs=16.5), dict(seed=None)])
def test_a_number_that_is_none_is_named(kw):
    "They had been a TypeError of `<`, or had passed and stopped the training after the data were read"
    (k,v), = kw.items()
    with pytest.raises(DataError, match=f'`{k}` is to be a whole number, not '): TrainOptions(**kw)

def test_minutes_are_a_number():
    with pytest.raises(DataError, match='`minutes` is to be a number'): CompareOptions(minutes='10')

def test_numbers_of_numpy():
    "A size of numpy's had stopped fastai's `Resize` with an IndexError"
    o = TrainOptions(size=np.int64(32), epochs=np.int32(2), lr=np.float32(1e-3))
    assert [*map(type, (o.size,o.epochs,o.lr))]==[int,int,float] and o.workers is None
    assert CompareOptions(minutes=np.float64(2)).minutes==2
    for seeds in (np.arange(3), range(3), map(np.int64, range(3))): assert CompareOptions(seeds=seeds).seeds==[0,1,2]
    assert [*map(type, CompareOptions(seeds=np.int64(3)).seeds)]==[int]

@pytest.mark.parametrize('seeds', [None, 'ab', 1.5, [1,None], np.array([.5])])
def test_seeds_that_are_none_are_named(seeds):
    with pytest.raises(DataError, match='seeds are to be whole numbers'): CompareOptions(seeds=seeds)

def test_a_device_of_torch():
    assert DeviceOptions.of(torch.device('cuda', 1)).device=='cuda:1'
    assert DeviceOptions().device is None
