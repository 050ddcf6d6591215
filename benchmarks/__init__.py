"""The same recurrent work through vledge and every installed peer, timed side by side."""
