"""Batches: pure functions of seed, epoch and row; the same from everywhere; exact on every rank."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from odd_sources import Noise
from scipy import stats
from torchvision.transforms import v2

from chexlib.data import Augment, Batcher, Batches, ImageCache
from chexlib.data.augment import random_order, uniforms

RNG = np.random.default_rng(0)
FILMS = RNG.integers(0, 256, (40, 32, 32), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(64), 2.0 * np.arange(64))[None].astype(np.uint8)


class TestRandomNumbers:
    def test_are_a_function_of_their_coordinates(self):
        whole = uniforms(7, 3, np.arange(100), range(5))
        np.testing.assert_array_equal(uniforms(7, 3, [42], [3]), whole[42:43, 3:4])
        for other in (uniforms(8, 3, np.arange(100), range(5)),
                      uniforms(7, 4, np.arange(100), range(5))):  # fmt: skip
            assert not (other == whole).any()

    def test_are_uniform_and_independent(self):
        u = uniforms(0, 0, np.arange(20_000), range(6))
        assert u.min() >= 0
        assert u.max() < 1
        for k in range(6):
            assert stats.kstest(u[:, k], "uniform").pvalue > 1e-4
        later = uniforms(0, 1, np.arange(20_000), range(6))
        apart = np.corrcoef(np.hstack([u, later]).T) - np.eye(12)
        assert np.abs(apart).max() < 0.035  # five standard errors
        assert abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 0.035

    @pytest.mark.parametrize("seed", [-1, 1.5, True, None])
    def test_seeds_are_whole_numbers(self, seed):
        with pytest.raises(ValueError, match="int from 0 up"):
            uniforms(seed, 0, [1], [0])

    def test_an_order_is_a_permutation_with_no_memory(self):
        one = random_order(1000, seed=1, epoch=0)
        assert sorted(one) == list(range(1000))
        two = random_order(1000, seed=1, epoch=1)
        assert (one == two).sum() < 10
        assert abs(stats.spearmanr(one, two).statistic) < 0.16


class TestAugment:
    @pytest.mark.parametrize(
        "wrong",
        [{"flip": 2}, {"degrees": -1}, {"translate": 1}, {"crop": (0.5, 0.2)}, {"crop": (0, 1)},
         {"aspect": 0.5}, {"brightness": 2}, {"contrast": -1}, {"scale": -0.1}],
    )  # fmt: skip
    def test_ranges_are_checked(self, wrong):
        with pytest.raises(ValueError, match=r"Expected .*got"):
            Augment(**wrong)

    def test_flips_half_of_the_films(self):
        draw = Augment.chexnet().draw(range(10_000), seed=0, epoch=0)
        assert abs(draw.flip.mean() - 0.5) < 0.02
        assert draw.matrix is None
        assert draw.gain is None
        assert not Augment.none().draw(range(100), seed=0, epoch=0).flip.any()

    def test_turning_one_change_on_leaves_the_others(self):
        one = Augment(flip=0.5, degrees=10).draw(range(50), seed=0, epoch=2)
        two = Augment(flip=0.5, degrees=10, brightness=0.1).draw(range(50), seed=0, epoch=2)
        np.testing.assert_array_equal(one.flip, two.flip)
        np.testing.assert_array_equal(one.matrix, two.matrix)

    def test_crops_have_the_area_they_were_given_and_stay_inside(self):
        draw = Augment(crop=(0.08, 1.0)).draw(range(5000), seed=0, epoch=0)
        area = np.abs(np.linalg.det(draw.matrix[:, :, :2]))
        assert area.min() >= 0.08
        assert stats.kstest((area - 0.08) / 0.92, "uniform").pvalue > 1e-4
        corners = np.array([[-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]], float)
        assert np.abs(draw.matrix @ corners.T).max() <= 1 + 1e-9


class TestBatcher:
    def test_scales_as_torchvision_does(self):
        films = torch.from_numpy(FILMS[[3, 9]])[:, None]
        expected = v2.functional.to_dtype(films, torch.float32, scale=True)
        found = Batcher(FILMS)([3, 9])
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        assert (found.min(), found.max()) == (0, 1)
        flipped = Batcher(FILMS, augment=Augment(flip=1))
        torch.testing.assert_close(flipped([3, 9]), found.flip(-1), atol=0, rtol=0)
        usual = v2.functional.resize(torch.from_numpy(FILMS[:4])[:, None].float(), [20, 20])
        found = Batcher(FILMS, size=20)(range(4))
        torch.testing.assert_close(found, usual / 255, atol=1e-5, rtol=0)

    def test_what_happens_to_a_film_does_not_depend_on_its_company(self):
        batcher = Batcher(FILMS, augment=Augment.positioning(), seed=5)
        whole = batcher(range(40), epoch=3)
        torch.testing.assert_close(batcher([17, 4], epoch=3), whole[[17, 4]], atol=0, rtol=0)
        assert not torch.equal(batcher([17], epoch=4), whole[[17]])
        other = Batcher(FILMS, augment=Augment.positioning(), seed=6)
        assert not torch.equal(other([17], epoch=3), whole[[17]])

    def test_a_matrix_moves_points_to_where_it_says(self):
        turn = Augment(degrees=30, translate=0.1, scale=0.2)
        batcher = Batcher(SMOOTH, augment=turn, seed=3)
        image = (batcher([0]) * 255)[0, 0].numpy()
        matrix = turn.draw([0], seed=3, epoch=0).matrix[0]
        axis = (np.arange(64) * 2 + 1) / 64 - 1
        x, y = np.meshgrid(axis, axis)
        source_x, source_y = np.einsum("ij,jyx->iyx", matrix, np.stack([x, y, np.ones_like(x)]))
        expected = ((source_y + 1) * 32 - 0.5) + 2 * ((source_x + 1) * 32 - 0.5)
        inside = (np.abs(source_x) < 0.95) & (np.abs(source_y) < 0.95)
        assert inside.mean() > 0.4
        assert np.abs(image - expected)[inside].max() < 0.05
        outside = (np.abs(source_x) > 1.05) | (np.abs(source_y) > 1.05)
        assert not image[outside].any()

    def test_grey_changes_are_as_drawn(self):
        change = Augment(brightness=0.2, contrast=0.5)
        batcher = Batcher(FILMS, augment=change)
        draw = change.draw([2, 3], seed=0, epoch=0)
        expected = draw.gain[:, None, None] * (FILMS[[2, 3]] - 127.5) + 127.5
        expected = (expected + draw.bias[:, None, None]) / 255
        assert (expected.min() < 0) | (expected.max() > 1)  # such values are black, or white
        found = batcher([2, 3])[:, 0].numpy()
        np.testing.assert_allclose(found, expected.clip(0, 1), atol=1e-5)

    def test_ten_crops_are_torchvisions(self):
        found = Batcher(FILMS, size=28).ten_crop([1, 2])[:, :, 0] * 255
        for row, crops in zip([1, 2], found, strict=True):
            expected = v2.TenCrop(28)(torch.from_numpy(FILMS[row])[None].float())
            for crop, other in zip(crops, expected, strict=True):
                torch.testing.assert_close(crop, other[0], atol=1e-3, rtol=0)

    def test_the_mean_of_ten_crops_in_small_batches(self):
        batcher, sizes = Batcher(FILMS, size=24), []

        def network(images):
            sizes.append(len(images))
            return images.mean(dim=(1, 2, 3))[:, None]

        found = batcher.ten_crop_mean(network, range(9), max_images_at_once=40)
        assert max(sizes) <= 40
        expected = batcher.ten_crop(range(9)).mean(dim=(1, 2, 3, 4))
        torch.testing.assert_close(found[:, 0], expected, atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match="at least 10"):
            batcher.ten_crop_mean(network, [1], max_images_at_once=9)

    def test_takes_a_cache_pickles_by_its_name_and_refuses_rejected_films(self, tmp_path):
        cache = ImageCache.build(Noise(6), tmp_path, size=32, workers=1)
        batcher = Batcher(cache, augment=Augment.positioning())
        sent = pickle.dumps(batcher)
        assert len(sent) < 5000
        torch.testing.assert_close(pickle.loads(sent)([1, 5]), batcher([1, 5]), atol=0, rtol=0)
        found = Batcher(cache)([4])[0, 0] * 255
        np.testing.assert_allclose(found, cache.images[4], atol=1e-4)
        cache.index.loc[2, ["status", "reason"]] = ["rejected", "truncated"]
        with pytest.raises(ValueError, match=r"00000002_000\.png \(truncated\)"):
            Batcher(cache)([1, 2])

    def test_resident_films_give_the_same(self):
        kept = Batcher(FILMS, augment=Augment.positioning(), resident=True)
        assert kept.resident
        gathered = Batcher(FILMS, augment=Augment.positioning(), resident=False)
        torch.testing.assert_close(kept([3, 1]), gathered([3, 1]), atol=0, rtol=0)

    @pytest.mark.parametrize(
        ("films", "options", "says"),
        [
            (FILMS.astype(float), {}, "float64"),
            (FILMS[0], {}, r"\[32, 32\]"),
            (FILMS[:, :20], {}, r"\[40, 20, 32\]"),
            (FILMS, {"size": 0}, "size=0"),
            (FILMS, {"resident": "always"}, "always"),
        ],
    )
    def test_bad_options_are_named(self, films, options, says):
        with pytest.raises(ValueError, match=says):
            Batcher(films, **options)

    def test_writes_where_it_is_told(self):
        batcher, out = Batcher(FILMS, augment=Augment.positioning()), torch.empty(9, 1, 32, 32)
        found = batcher([1, 2], out=out)
        assert found.data_ptr() == out.data_ptr()
        torch.testing.assert_close(found, batcher([1, 2]), atol=0, rtol=0)
        for wrong in (out[:1], out[..., :1], out.double()):
            with pytest.raises(ValueError, match="Expected out as float32"):
                batcher([1, 2], out=wrong)

    @pytest.mark.parametrize("rows", [[40], [-1], [0.5], [[1]], ["a"]])
    def test_bad_rows_are_named(self, rows):
        with pytest.raises(ValueError, match="Expected rows"):
            Batcher(FILMS)(rows)


class TestBatches:
    def make(self, **options):
        given = {"rows": np.arange(5, 40), "batch_size": 4, "shuffle": True, "epoch": 2, **options}
        return Batches(Batcher(FILMS, augment=Augment.chexnet(), seed=1), **given)

    def rows(self, batches):
        return [rows.tolist() for _, _, rows in batches]

    def test_every_film_once_in_an_order_that_repeats(self):
        one, two = self.rows(self.make()), self.rows(self.make())
        assert one == two
        assert sorted(itertools.chain(*one)) == list(range(5, 40))
        assert self.rows(self.make(epoch=3)) != one
        assert list(itertools.chain(*self.rows(self.make(shuffle=False)))) == list(range(5, 40))

    def test_targets_follow_their_films(self):
        targets = np.arange(5, 40)[:, None].repeat(14, axis=1)
        for images, labels, rows in self.make(targets=targets):
            assert images.shape == (len(rows), 1, 32, 32)
            assert labels[:, 0].tolist() == rows.tolist()

    @pytest.mark.parametrize("world_size", [2, 3])
    def test_ranks_share_one_batch_exactly(self, world_size):
        whole = self.make(batch_size=6)
        ranks = [
            self.make(batch_size=6 // world_size, rank=r, world_size=world_size)
            for r in range(world_size)
        ]
        for step in range(len(whole) - 1):
            parts = [ranks[r][step][2].tolist() for r in range(world_size)]
            assert sorted(itertools.chain(*parts)) == sorted(whole[step][2].tolist())
        everything = [row for rank in ranks for rows in self.rows(rank) for row in rows]
        assert sorted(everything) == list(range(5, 40))  # none is repeated to pad

    def test_dropping_the_last_gives_all_ranks_as_many_steps(self):
        ranks = [self.make(rank=r, world_size=3, drop_last=True) for r in range(3)]
        assert {len(rank) for rank in ranks} == {2}
        assert all(len(rows) == 4 for rank in ranks for rows in self.rows(rank))

    def test_reused_memory_holds_the_same_until_its_turn_comes_again(self):
        fresh = [images for images, _, _ in self.make()]
        pointers = []
        for (images, _, _), expected in zip(self.make(reuse=2), fresh, strict=True):
            torch.testing.assert_close(images, expected, atol=0, rtol=0)
            pointers.append(images.data_ptr())
        assert len(set(pointers)) == 2

    def test_works_behind_a_data_loader(self):
        batches = self.make(targets=torch.arange(35))
        loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1)
        for (images, targets, rows), (i2, t2, r2) in zip(loader, batches, strict=True):
            torch.testing.assert_close(images, i2, atol=0, rtol=0)
            assert targets.tolist() == t2.tolist()
            assert rows.tolist() == r2.tolist()

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"batch_size": 0}, "batch_size=0"),
            ({"rank": 2, "world_size": 2}, "rank=2"),
            ({"reuse": -1}, "reuse=-1"),
            ({"targets": np.zeros(3)}, "got 3"),
            ({"rows": [99]}, "99"),
        ],
    )
    def test_bad_options_are_named(self, wrong, says):
        with pytest.raises(ValueError, match=says):
            self.make(**wrong)
        with pytest.raises(IndexError, match="got 99"):
            self.make()[99]
